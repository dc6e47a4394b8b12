"""Attention pooling: a learned weight for every feature."""

import torch
from torch import Tensor, nn

from rf_training.model.fusion.fusion import Fusion


class AttentionPoolFusion(Fusion):
    """One learned query attends over the set: z = sum of softmax(w · tanh(W h + b)) h (Eq. 18-20, R3); permutation-invariant.

    The query starts at zero: all features that are present weigh the same, which is their mean.
    """

    def __init__(self, dim: int) -> None:
        super().__init__(dim)
        self.key = nn.Linear(dim, dim)
        self.query_D = nn.Parameter(torch.zeros(dim))

    def fuse(self, tokens_RMD: Tensor, present_RM: Tensor) -> Tensor:
        """Return the weighted sum, [R, D]."""
        score_RM = torch.tanh(self.key(tokens_RMD)) @ self.query_D
        weight_RM = score_RM.masked_fill(~present_RM, -torch.inf).softmax(1)
        return (weight_RM.unsqueeze(-1) * tokens_RMD).sum(1)
