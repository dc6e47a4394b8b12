"""Tokens of one side of the model, read from tables in which everything that does not depend on the request was done before.

In training a value's token is looked up, projected and offset. Served weights do not change: here each feature's table holds the
projected and offset tokens already, all features' tables lie in one, and the tokens of a batch are one gather.

Shapes: R rows, M features, F features that are looked up, D width, W width of an embedding, V rows of all tables, E = D + 1.
"""

from collections.abc import Mapping, Sequence
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rf_platform.features.jagged import EncodedTable
from rf_platform.features.spec import FieldSpec, Side
from rf_training.model.retrievalformer import RetrievalFormer
from rf_training.model.served.onnx_graph import Inputs

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
        self.dim = model.config.dim
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
        self._start_F, self._nothing = starts[:-1], int(starts[-1])
        cut = len(self._keys) + len(self._numbers)
        self._number_weight_FD = tokens.number_weight_FD
        self._number_bias_FD, self._vector_bias_FD = bias_MD[len(self._keys) : cut], bias_MD[cut:]
        self._projections = cast(Sequence[nn.Linear], tokens.projections)
        # For sums: one more column counts, and one more row is where nothing is to be added.
        self.sum_table_VE = F.pad(_counted(self._table_VD), (0, 0, 0, 1)) if self._table_VD is not None else None
        """Rows for the ids of :meth:`inputs`; None where nothing is looked up."""
        dense = [F.pad(self._number_weight_FD, (0, 1)), _counted(self._number_bias_FD)]
        for projection, bias_D in zip(self._projections, self._vector_bias_FD, strict=True):
            dense += [F.pad(projection.weight.t(), (0, 1)), _counted(bias_D[None])]
        self.sum_dense_NE = torch.cat(dense) if self._numbers or self._vectors else None
        """Factors of the dense ones of :meth:`inputs`; None where there are none."""
        self._dense_width = sum(len(each) for each in dense)

    def __call__(self, features: EncodedTable) -> tuple[Tensor, Tensor]:
        """Return tokens [R, M, D] and which of them are present [R, M]; the value of one that is not present means nothing."""
        tokens: list[Tensor] = []
        present: list[Tensor] = []
        if self._table_VD is not None:
            ids_RF = torch.from_numpy(self._ids(features))
            present_RF = ids_RF != self._nothing
            tokens.append(F.embedding(ids_RF.clamp_(max=self._nothing - 1), self._table_VD))
            present.append(present_RF)
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

    def inputs(self, side: Side, features: EncodedTable) -> Inputs:
        """Return the inputs of a graph that adds up the tokens: rows of one table, and what the other is multiplied by."""
        inputs: Inputs = {}
        if self.sum_table_VE is not None:
            inputs[f"{side}_ids"] = self._ids(features)
        if self.sum_dense_NE is not None:
            inputs[f"{side}_dense"] = self._dense(features, self._dense_width)
        return inputs

    def _dense(self, features: EncodedTable, width: int) -> npt.NDArray[np.float32]:
        """Return the numbers, 1 for each that is there, and each vector with a 1 behind it [R, N]; 0 for all that is missing."""
        count = len(self._numbers)
        dense_RN = np.empty((features.rows, width), np.float32)
        for column, key in enumerate(self._numbers):
            number_R = features.numbers[key]
            known_R = number_R == number_R
            dense_RN[:, column] = np.where(known_R, number_R, 0)
            dense_RN[:, count + column] = known_R
        begin = 2 * count
        for key in self._vectors:
            vector_RW = features.vectors[key]
            end = begin + vector_RW.shape[1]
            known_R = ~np.isnan(vector_RW).any(axis=1)
            dense_RN[:, begin:end] = np.where(known_R[:, None], vector_RW, 0)
            dense_RN[:, end] = known_R
            begin = end + 1
        return dense_RN

    def _ids(self, features: EncodedTable) -> npt.NDArray[np.int64]:
        """Return the row of the table of each value [R, F]; where there is none, that of :attr:`sum_table_VE` which is 0."""
        ids_RF = np.empty((features.rows, len(self._keys)), np.int64)
        for column, (key, start) in enumerate(zip(self._keys, self._start_F.tolist(), strict=True)):
            found = features.ids[key]
            if len(found.values) == features.rows:
                np.add(found.values, start, out=ids_RF[:, column])
            else:
                known_R = found.lengths.astype(np.bool_)
                ids_RF[:, column] = self._nothing
                ids_RF[known_R, column] = found.values + start
        return ids_RF

    def _vector_token(self, place: int, vector: npt.NDArray[np.float32]) -> tuple[Tensor, Tensor]:
        vector_RW = torch.from_numpy(vector)
        known_R = ~torch.isnan(vector_RW).any(dim=1)
        filled_RW = torch.where(known_R.unsqueeze(1), vector_RW, 0.0)
        return self._projections[place](filled_RW) + self._vector_bias_FD[place], known_R


def _counted(tokens_RD: Tensor) -> Tensor:
    """Return the tokens with a 1 behind each [R, D + 1]: in a sum of them it becomes their number."""
    return F.pad(tokens_RD, (0, 1), value=1.0)


def _table(model: RetrievalFormer, key: str) -> Tensor:
    table: Tensor = model.embeddings.collection.embedding_bags[model.embeddings.table_of[key]].weight.detach()
    return table
