"""Concatenation and projection."""

import torch
from torch import Tensor, nn

from rf_training.model.fusion.fusion import Fusion


class ConcatFusion(Fusion):
    """All features side by side, projected back to the width of one: late fusion (App. B.1, R3).

    Every feature has its place, so their number is fixed and their order matters. A missing one is a learned vector of its place,
    zero at the start. The projection starts as the mean: an M-th of the identity for each feature.
    """

    def __init__(self, dim: int, count: int) -> None:
        super().__init__(dim)
        self.absent_MD = nn.Parameter(torch.zeros(count, dim))
        self.weight_MDD = nn.Parameter(torch.eye(dim).repeat(count, 1, 1) / max(1, count))
        self.bias_D = nn.Parameter(torch.zeros(dim))

    def fuse(self, tokens_RMD: Tensor, present_RM: Tensor) -> Tensor:
        """Return the projection, [R, D]."""
        filled_RMD = torch.where(present_RM.unsqueeze(-1), tokens_RMD, self.absent_MD)
        return torch.addmm(self.bias_D, filled_RMD.flatten(1), self.weight_MDD.flatten(0, 1))
