"""Pre-norm transformer blocks.

Shapes: B batch, T tokens, Q tokens that are computed, D width, H heads, E width of a head.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rf_training.model.dropout import Dropout


class Block(nn.Module):
    """Attention and feed-forward with residual connections, normalised before each.

    Both branches start close to zero: the tower starts by passing its input on, in the space of the items.
    """

    def __init__(self, dim: int, heads: int, ffn: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm = nn.LayerNorm(dim)
        self.query = nn.Linear(dim, dim)
        self.key_value = nn.Linear(dim, 2 * dim)
        self.out = nn.Linear(dim, dim)
        self.ffn_norm = nn.LayerNorm(dim)
        last = nn.Linear(ffn * dim, dim)
        self.ffn = nn.Sequential(nn.Linear(dim, ffn * dim), nn.GELU(), Dropout(dropout), last)
        self.dropout = Dropout(dropout)
        for branch in (self.out, last):
            nn.init.normal_(branch.weight, std=0.02)
            nn.init.zeros_(branch.bias)

    def forward(self, asking_BQD: Tensor, mask: Tensor | None, seen_BTD: Tensor | None = None) -> Tensor:
        """Compute tokens that attend to all tokens that ``mask`` allows.

        Args:
            asking_BQD: the tokens that are computed.
            mask: bool, broadcastable to [B, H, Q, T]; None means causal, where tokens attend to each other.
            seen_BTD: the tokens attended to; default: those that are computed. In the last block only what is read need ask.

        Returns:
            [B, Q, D].
        """
        seen_BTD = asking_BQD if seen_BTD is None else seen_BTD
        (B, Q, D), T = asking_BQD.shape, seen_BTD.shape[1]
        normed_BTD = self.attention_norm(seen_BTD)
        normed_BQD = normed_BTD if seen_BTD is asking_BQD else self.attention_norm(asking_BQD)
        q = self.query(normed_BQD).view(B, Q, self.heads, D // self.heads).transpose(1, 2)
        k, v = self.key_value(normed_BTD).view(B, T, 2, self.heads, D // self.heads).permute(2, 0, 3, 1, 4)
        mixed = attention(q, k, v, mask)
        x_BQD = asking_BQD + self.dropout(self.out(mixed.transpose(1, 2).reshape(B, Q, D)))
        out: Tensor = x_BQD + self.dropout(self.ffn(self.ffn_norm(x_BQD)))
        return out


def attention(q_BHQE: Tensor, k_BHTE: Tensor, v_BHTE: Tensor, mask: Tensor | None) -> Tensor:
    """Return the attended values [B, H, Q, E], causal without a mask.

    On a CPU in float32, where attention is slower in bfloat16; elsewhere in the format of the products, as the fast kernels
    demand it.
    """
    if q_BHQE.device.type != "cpu":
        return F.scaled_dot_product_attention(q_BHQE, k_BHTE, v_BHTE, attn_mask=mask, is_causal=mask is None)
    with torch.autocast("cpu", enabled=False):
        return F.scaled_dot_product_attention(
            q_BHQE.float(), k_BHTE.float(), v_BHTE.float(), attn_mask=mask, is_causal=mask is None
        )
