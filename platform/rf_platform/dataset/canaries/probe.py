"""Probe of a view: how well its values alone tell the item that is taken from items that are as popular.

It is no recommender, and is not made to be good. It is counted, not trained, so that a difference between two variants of the
data comes from the data. What it says is a probability: that the taken item has a higher score than another one, drawn by
popularity; 0.5 knows nothing.

Shapes: E events, I items, V values of a view's fields, A attributes of items, C candidates of an event, the taken one first.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix, hstack

from rf_platform.features.spec import FieldSpec

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
_PRIOR = 5.0
"""Events that the evidence of a value has to outweigh."""
_DECILES = 10
LOOKED_AT = ("categorical", "multi", "numeric", "timestamp")
"""Kinds of fields that are counted; vectors and texts are not."""


@dataclass(frozen=True, eq=False)
class Coded:
    """Values of all fields of a view as columns of a matrix; each row has the weight 1 for each field."""

    rows: csr_matrix
    """``[rows + 1, V]``; the last row is that of an entity without one."""

    @classmethod
    def of(cls, fields: Sequence[FieldSpec], columns: Sequence[Sequence[Any]]) -> "Coded":
        """Code the distinct rows of a view: numbers and times by their deciles, a missing value as one more.

        Args:
            fields: of the view.
            columns: their values, by row.
        """
        coded = [
            _coded([*values, None], numeric=f.kind in ("numeric", "timestamp"))
            for f, values in zip(fields, columns, strict=True)
        ]
        return cls(hstack(coded, format="csr"))


def _coded(values: Sequence[Any], *, numeric: bool) -> csr_matrix:
    edges = np.zeros(0)
    if numeric:
        numbers = np.array([v for v in values if v is not None and v == v], np.float64)
        edges = np.unique(np.quantile(numbers, np.linspace(0, 1, _DECILES + 1)[1:-1])) if len(numbers) else edges
    number: dict[Any, int] = {}
    row, column, weight = list[int](), list[int](), list[float]()
    for place, value in enumerate(values):
        elements = list(value) or [None] if isinstance(value, list | tuple) else [value]
        for element in elements:
            missing = element is None or element != element
            key = None if missing else int(np.searchsorted(edges, element, "left")) if numeric else element
            row.append(place)
            column.append(number.setdefault(key, len(number)))
            weight.append(1 / len(elements))
    return csr_matrix((weight, (row, column)), shape=(len(values), len(number)))


@dataclass(frozen=True, eq=False, kw_only=True)
class UserProbe:
    """Evidence of a user's values for attributes of items: how much more often the two were met than chance explains."""

    evidence_VA: csr_matrix
    attributes_IA: csr_matrix

    @classmethod
    def learn(cls, values_EV: csr_matrix, taken_E: Ints, attributes_IA: csr_matrix) -> "UserProbe":
        """Count training events.

        Args:
            values_EV: values of the users just before each event.
            taken_E: the item of each.
            attributes_IA: attributes of all items, among them each item itself.
        """
        of_taken_EA = attributes_IA[taken_E]
        met = (values_EV.T @ of_taken_EA).tocoo()
        by_value, by_attribute = (np.asarray(each.sum(axis=0)).ravel() for each in (values_EV, of_taken_EA))
        expected = by_value[met.row] * by_attribute[met.col] / len(taken_E)
        evidence = np.log((met.data + _PRIOR) / (expected + _PRIOR))
        return cls(evidence_VA=csr_matrix((evidence, (met.row, met.col)), shape=met.shape), attributes_IA=attributes_IA)

    def scores(self, values_EV: csr_matrix, candidates_EC: Ints) -> Floats:
        """Return the scores of candidates ``[E, C]``."""
        wanted_EA = (values_EV @ self.evidence_VA).tocsr()
        scores = np.zeros(candidates_EC.shape)
        for event, dense_A in _dense_rows(wanted_EA):
            scores[event] = self.attributes_IA[candidates_EC[event]] @ dense_A
        return scores


def _dense_rows(matrix: csr_matrix, at_once: int = 64) -> Iterator[tuple[int, Floats]]:
    for start in range(0, matrix.shape[0], at_once):
        for number, row in enumerate(matrix[start : start + at_once].toarray()):
            yield start + number, row


@dataclass(frozen=True, eq=False, kw_only=True)
class ItemProbe:
    """Evidence of an item's values for its being taken: how much more often taken items had them than others at that time."""

    evidence_V: Floats

    @classmethod
    def learn(cls, taken_EV: csr_matrix, others_EV: csr_matrix) -> "ItemProbe":
        """Count training events: the values of the taken item, and of another one at the same time."""
        taken, others = (np.asarray(each.sum(axis=0)).ravel() for each in (taken_EV, others_EV))
        return cls(evidence_V=np.log((taken + _PRIOR) / (others + _PRIOR)))

    def scores(self, values_PV: csr_matrix, candidates: int) -> Floats:
        """Return the scores of candidates ``[E, C]``; the values come event by event."""
        found: Floats = np.asarray(values_PV @ self.evidence_V).reshape(-1, candidates)
        return found


def told_apart(scores_EC: Floats) -> Floats:
    """Return by event the share of the other candidates that the taken one, the first, is scored above; ties count half."""
    taken, others = scores_EC[:, :1], scores_EC[:, 1:]
    found: Floats = ((taken > others + 1e-12) + 0.5 * (np.abs(taken - others) <= 1e-12)).mean(axis=1)
    return found
