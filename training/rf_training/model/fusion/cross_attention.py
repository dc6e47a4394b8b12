"""Cross-attention: one feature asks the others."""

import torch
from torch import Tensor, nn

from rf_training.model.fusion.fusion import Fusion


class CrossAttentionFusion(Fusion):
    """The first feature of a side is the query that attends over the other features (Eq. 21-24, R3).

    Which one that is: of an item its id (its first attribute in a model without ids), of an interaction the item's vector, of a
    user the first attribute. The order of the others does not matter. Where the query is missing, a learned vector asks instead.

    The paper's z holds the attended features only, and would forget the query itself. Here z is the mean of the query and of what
    it found, which counts as many times as there are other features; with the query's projection at zero and the values'
    at the identity, training starts from the mean of all features.
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__(dim)
        self.heads = heads
        self.query = nn.Linear(dim, dim, bias=False)
        self.key = nn.Linear(dim, dim, bias=False)
        self.value = nn.Linear(dim, dim, bias=False)
        self.absent_D = nn.Parameter(torch.zeros(dim))
        nn.init.zeros_(self.query.weight)
        nn.init.eye_(self.value.weight)

    def fuse(self, tokens_RMD: Tensor, present_RM: Tensor) -> Tensor:
        """Return the fused vectors, [R, D]."""
        R, M, D = tokens_RMD.shape
        if M == 1:
            return tokens_RMD.squeeze(1)
        asks_R1, others_RO = present_RM[:, :1], present_RM[:, 1:]
        others_ROD = tokens_RMD[:, 1:]
        first_RD = torch.where(asks_R1, tokens_RMD[:, 0], self.absent_D)
        shape = (R, M - 1, self.heads, D // self.heads)
        q = self.query(first_RD).view(R, 1, *shape[2:])
        score_ROH = (q * self.key(others_ROD).view(shape)).sum(-1) * shape[-1] ** -0.5
        alone_R1 = ~others_RO.any(1, keepdim=True)  # a softmax over nothing is not a number
        weight_ROH = score_ROH.masked_fill(~(others_RO | alone_R1).unsqueeze(-1), -torch.inf).softmax(1)
        found_RD = (weight_ROH.unsqueeze(-1) * self.value(others_ROD).view(shape)).sum(1).reshape(R, D)
        count_R1 = others_RO.sum(1, keepdim=True)
        fused_RD: Tensor = (torch.where(asks_R1, first_RD, 0.0) + count_R1 * found_RD) / (asks_R1 + count_R1)
        return fused_RD
