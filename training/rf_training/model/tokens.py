"""One token per feature, whatever its kind.

Shapes: R rows, M features, F categorical features of the common width D, W another width.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from rf_training.model.inputs import Embedded, FeatureTensors


class FeatureTokens(nn.Module):
    """Projects every feature of one side to the common width (Eq. 1): looked-up ids, standardised numbers and dense vectors.

    A projection starts as the identity: at the start an id's token is its shared embedding, and the tie between the towers
    that share it is not broken by random weights. For an embedding of another width it is a rectangular identity: the embedding
    fills the first dimensions of the token, or loses its last.

    Without projection an embedding of the common width is its token as it is, and numbers and vectors have no offset: what a
    plain mean works best on.

    Args:
        ids: width of the embedding of every categorical feature; those of width ``dim`` come first, the item's id before all.
        numbers: numeric features.
        vectors: width of every dense vector.
        dim: width of a token.
        project: whether tokens are projected and offset, each feature's by weights of its own.
    """

    def __init__(
        self,
        ids: Mapping[str, int],
        numbers: Sequence[str],
        vectors: Mapping[str, int],
        dim: int,
        project: bool = True,
    ) -> None:
        super().__init__()
        by_width: dict[int, list[str]] = {dim: []}
        for key, width in ids.items():
            by_width.setdefault(width, []).append(key)
        self.full = by_width.pop(dim)
        self.other = [key for keys in by_width.values() for key in keys]
        self.ids, self.numbers, self.vectors = [*self.full, *self.other], list(numbers), list(vectors)
        self.weight_FDD = nn.Parameter(torch.eye(dim).repeat(len(self.full), 1, 1)) if project else None
        self.resize = nn.ParameterList(torch.eye(ids[key], dim) for key in self.other)
        self.number_weight_FD = nn.Parameter(torch.randn(len(self.numbers), dim) * 0.02)
        self.projections = nn.ModuleList(nn.Linear(width, dim, bias=False) for width in vectors.values())
        for projection in self.projections:
            nn.init.normal_(projection.weight, std=0.02)  # type: ignore[arg-type]
        self.bias_MD = nn.Parameter(torch.zeros(self.count, dim)) if project else None

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
        if self.full:
            looked_up_RFD = torch.stack([embedded[key].pooled_RD for key in self.full], dim=1)
            if self.weight_FDD is not None:
                looked_up_RFD = torch.einsum("rfd,fde->rfe", looked_up_RFD, self.weight_FDD)
            tokens.append(looked_up_RFD)
        for key, resize_WD in zip(self.other, self.resize, strict=True):
            tokens.append((embedded[key].pooled_RD @ resize_WD).unsqueeze(1))
        if self.ids:
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
        tokens_RMD = torch.cat(tokens, dim=1)
        return tokens_RMD if self.bias_MD is None else tokens_RMD + self.bias_MD, torch.cat(present, dim=1)
