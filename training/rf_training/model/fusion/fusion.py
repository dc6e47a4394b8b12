"""Interface of a fusion of features.

Shapes, here and in the files beside: R rows, M features, O features but the first, D width, H heads.
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn


class Fusion(nn.Module, ABC):
    """Maps the features that are present to one vector; the value of a missing feature changes nothing (R2).

    Every fusion starts at the mean of the features that are present, or close to it: a random start breaks the tie between the
    towers, which share their embeddings, and takes long to make good.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.empty_D = nn.Parameter(torch.zeros(dim))  # vector of an entity without any known feature

    def forward(self, tokens_RMD: Tensor, present_RM: Tensor) -> Tensor:
        """Fuse ``tokens_RMD`` where ``present_RM`` (bool) says so; returns [R, D]."""
        any_R1 = present_RM.any(dim=1, keepdim=True)
        fused_RD = self.fuse(tokens_RMD, present_RM | ~any_R1)
        return torch.where(any_R1, fused_RD, self.empty_D)

    @abstractmethod
    def fuse(self, tokens_RMD: Tensor, present_RM: Tensor) -> Tensor:
        """Fuse rows that have at least one feature each."""
