"""Tokens of one side of the model, read from tables in which everything that does not depend on the request was done before.

In training a value's token is looked up, projected and offset. Served weights do not change: here each feature's table holds the
projected and offset tokens already, all features' tables lie in one, and the tokens of a batch are one gather.

Shapes: R rows, M features, F features that are looked up, D width, W width of an embedding, V rows of all tables.
"""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from rf_platform.features.encode import EncodedTable
from rf_platform.features.spec import FieldSpec, Side
from rf_training.model.retrievalformer import RetrievalFormer

FOLDED_BYTES = 64 << 20
"""Largest table that is made; a side with more values is looked up as in training."""


class FoldedTokens:
    """The tokens of users or interactions, for features with one value each."""

    @classmethod
    def of(cls, model: RetrievalFormer, side: Side, fields: tuple[FieldSpec, ...]) -> "FoldedTokens | None":
        """Fold the tables of a side; None where a feature has several values, or the tables are too large."""
        keys = model.side(side).ids
        tables = {key: _table(model, key) for key in keys}
        size = sum(table.numel() // table.shape[1] for table in tables.values()) * model.config.dim * 4
        if any(f.kind == "multi" for f in fields) or size > FOLDED_BYTES:
            return None
        return cls(model, side, tables)

    @torch.inference_mode()
    def __init__(self, model: RetrievalFormer, side: Side, tables: Mapping[str, Tensor]) -> None:
        tokens = model.side(side)
        self._keys, self._numbers, self._vectors = tokens.ids, tokens.numbers, tokens.vectors
        bias_MD = torch.zeros(tokens.count, model.config.dim) if tokens.bias_MD is None else tokens.bias_MD
        weights: list[Tensor | None] = (
            list(tokens.weight_FDD) if tokens.weight_FDD is not None else [None] * len(tokens.full)
        )
        weights += tokens.resize
        folded = [
            (tables[key] if weight is None else tables[key] @ weight) + bias_D
            for key, weight, bias_D in zip(self._keys, weights, bias_MD, strict=False)
        ]
        self._table_VD = torch.cat(folded) if folded else None
        starts = np.cumsum([0, *(len(table) for table in folded)])
        self._start_of = dict(zip(self._keys, starts.tolist(), strict=False))
        cut = len(self._keys) + len(self._numbers)
        self._number_weight_FD = tokens.number_weight_FD
        self._number_bias_FD, self._vector_bias_FD = bias_MD[len(self._keys) : cut], bias_MD[cut:]
        self._projections = list(tokens.projections)

    def __call__(self, features: EncodedTable) -> tuple[Tensor, Tensor]:
        """Return tokens [R, M, D] and which of them are present [R, M]; the value of one that is not present means nothing."""
        tokens: list[Tensor] = []
        present: list[Tensor] = []
        if self._table_VD is not None:
            ids_RF = np.zeros((features.rows, len(self._keys)), np.int64)
            present_RF = np.empty((features.rows, len(self._keys)), np.bool_)
            for column, key in enumerate(self._keys):
                known_R = present_RF[:, column]
                known_R[:] = features.ids[key].lengths
                ids_RF[known_R, column] = features.ids[key].values
                ids_RF[:, column] += self._start_of[key]
            tokens.append(F.embedding(torch.from_numpy(ids_RF), self._table_VD))
            present.append(torch.from_numpy(present_RF))
        if self._numbers:
            number_RF = torch.from_numpy(np.stack([features.numbers[key] for key in self._numbers], axis=1))
            filled_RF = torch.nan_to_num(number_RF)
            tokens.append(torch.addcmul(self._number_bias_FD, filled_RF.unsqueeze(-1), self._number_weight_FD))
            present.append(number_RF == number_RF)
        for place, key in enumerate(self._vectors):
            token_RD, there_R = self._vector_token(place, features.vectors[key])
            tokens.append(token_RD.unsqueeze(1))
            present.append(there_R.unsqueeze(1))
        if len(tokens) == 1:
            return tokens[0], present[0]
        return torch.cat(tokens, dim=1), torch.cat(present, dim=1)

    def _vector_token(self, place: int, vector: npt.NDArray[np.float32]) -> tuple[Tensor, Tensor]:
        vector_RW = torch.from_numpy(vector)
        known_R = ~torch.isnan(vector_RW).any(dim=1)
        filled_RW = torch.where(known_R.unsqueeze(1), vector_RW, 0.0)
        return self._projections[place](filled_RW) + self._vector_bias_FD[place], known_R


def _table(model: RetrievalFormer, key: str) -> Tensor:
    table: Tensor = model.embeddings.collection.embedding_bags[model.embeddings.table_of[key]].weight.detach()
    return table
