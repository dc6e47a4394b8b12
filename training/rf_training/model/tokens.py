"""One token per feature, whatever its kind.

Shapes: R rows, M features, D width, W width of a dense vector.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from rf_training.model.inputs import Embedded, FeatureTensors


class FeatureTokens(nn.Module):
    """Projects every feature of one side to the common width (Eq. 1): looked-up ids, standardised numbers and dense vectors.

    A projection starts as the identity: at the start an id's token is its shared embedding, and the tie between the towers
    that share it is not broken by random weights.
    """

    def __init__(self, ids: Sequence[str], numbers: Sequence[str], vectors: Mapping[str, int], dim: int) -> None:
        super().__init__()
        self.ids, self.numbers, self.vectors = list(ids), list(numbers), list(vectors)
        self.weight_FDD = nn.Parameter(torch.eye(dim).repeat(len(self.ids), 1, 1))
        self.number_weight_FD = nn.Parameter(torch.randn(len(self.numbers), dim) * 0.02)
        self.projections = nn.ModuleList(nn.Linear(width, dim, bias=False) for width in vectors.values())
        for projection in self.projections:
            nn.init.normal_(projection.weight, std=0.02)  # type: ignore[arg-type]
        self.bias_MD = nn.Parameter(torch.zeros(self.count, dim))

    @property
    def count(self) -> int:
        """Number of tokens M."""
        return len(self.ids) + len(self.numbers) + len(self.vectors)

    def forward(self, features: FeatureTensors, embedded: Mapping[str, Embedded]) -> tuple[Tensor, Tensor]:
        """Return tokens [R, M, D] and which of them are present [R, M].

        Args:
            features: numbers and vectors of this side.
            embedded: what was looked up for the ids of this side.
        """
        tokens: list[Tensor] = []
        present: list[Tensor] = []
        if self.ids:
            looked_up_RFD = torch.stack([embedded[key].pooled_RD for key in self.ids], dim=1)
            tokens.append(torch.einsum("rfd,fde->rfe", looked_up_RFD, self.weight_FDD))
            present.append(torch.stack([embedded[key].present_R for key in self.ids], dim=1))
        if self.numbers:
            numbers_RF = torch.stack([features.numbers[key] for key in self.numbers], dim=1)
            known_RF = ~torch.isnan(numbers_RF)
            tokens.append(torch.where(known_RF, numbers_RF, 0.0).unsqueeze(-1) * self.number_weight_FD)
            present.append(known_RF)
        for key, projection in zip(self.vectors, self.projections, strict=True):
            vector_RW = features.vectors[key]
            known_R1 = ~torch.isnan(vector_RW).any(dim=1, keepdim=True)
            tokens.append(projection(torch.where(known_R1, vector_RW, 0.0)).unsqueeze(1))
            present.append(known_R1)
        return torch.cat(tokens, dim=1) + self.bias_MD, torch.cat(present, dim=1)
