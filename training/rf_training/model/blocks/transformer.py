"""Softmax attention.

Shapes: B users, Q tokens that are computed, T tokens that are seen, D width, H heads, E width of a head.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rf_training.model.blocks.block import Block, BlockSize, Sight


class TransformerBlock(Block):
    """Attention over the tokens seen, weighed by a softmax (Eq. 8, R7)."""

    def make_mixer(self, size: BlockSize) -> None:
        """Make the projections of attention."""
        self.heads = size.heads
        self.query = nn.Linear(size.dim, size.dim)
        self.key_value = nn.Linear(size.dim, 2 * size.dim)

    def mix(self, normed_BQD: Tensor, normed_BTD: Tensor, sight: Sight) -> Tensor:
        """Return the attended values [B, Q, D]."""
        (B, Q, D), T = normed_BQD.shape, normed_BTD.shape[1]
        q = self.query(normed_BQD).view(B, Q, self.heads, D // self.heads).transpose(1, 2)
        k, v = self.key_value(normed_BTD).view(B, T, 2, self.heads, D // self.heads).permute(2, 0, 3, 1, 4)
        return attention(q, k, v, sight.mask).transpose(1, 2).reshape(B, Q, D)


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
