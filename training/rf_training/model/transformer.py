"""Pre-norm transformer blocks.

Shapes: B batch, T tokens, Q tokens that are computed, D width, H heads.
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

    def forward(self, x_BTD: Tensor, mask: Tensor | None, first: int = 0) -> Tensor:
        """Compute the tokens from ``first`` on, which attend to all tokens that ``mask`` allows.

        Args:
            x_BTD: tokens.
            mask: bool, broadcastable to [B, H, T - first, T]; None means causal, with ``first`` 0.
            first: tokens before it are only attended to: what the last block needs not compute.

        Returns:
            [B, T - first, D].
        """
        B, T, D = x_BTD.shape
        normed_BTD = self.attention_norm(x_BTD)
        q = self.query(normed_BTD[:, first:]).view(B, T - first, self.heads, D // self.heads).transpose(1, 2)
        k, v = self.key_value(normed_BTD).view(B, T, 2, self.heads, D // self.heads).permute(2, 0, 3, 1, 4)
        with torch.autocast(x_BTD.device.type, enabled=False):  # on CPUs attention is slower in bfloat16
            mixed = F.scaled_dot_product_attention(
                q.float(), k.float(), v.float(), attn_mask=mask, is_causal=mask is None
            )
        x_BQD = x_BTD[:, first:] + self.dropout(self.out(mixed.transpose(1, 2).reshape(B, T - first, D)))
        out: Tensor = x_BQD + self.dropout(self.ffn(self.ffn_norm(x_BQD)))
        return out
