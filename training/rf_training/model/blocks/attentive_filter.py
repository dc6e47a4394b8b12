"""Attention and frequency filters side by side.

Shapes: B users, Q tokens that are computed, T tokens that are seen, D width.
"""

from torch import Tensor

from rf_training.model.blocks.block import BlockSize, Sight
from rf_training.model.blocks.filter import FilterBlock
from rf_training.model.blocks.transformer import TransformerBlock


class AttentiveFilterBlock(TransformerBlock, FilterBlock):
    """A sum of softmax attention and filtered tokens, which one layer projects.

    Attention alone smooths: it passes on what changes slowly (Shin et al., 2024, "An attentive inductive bias for sequential
    recommendation beyond the self-attention"). The filters bring what changes quickly back, at every distance by a weight of
    its own.
    """

    def make_mixer(self, size: BlockSize) -> None:
        """Make the projections of attention, and the spectra."""
        TransformerBlock.make_mixer(self, size)
        FilterBlock.make_mixer(self, size)

    def mix(self, normed_BQD: Tensor, normed_BTD: Tensor, sight: Sight) -> Tensor:
        """Return the attended values and the filtered tokens, added up [B, Q, D]."""
        attended_BQD = TransformerBlock.mix(self, normed_BQD, normed_BTD, sight)
        return attended_BQD + FilterBlock.mix(self, normed_BQD, normed_BTD, sight)
