"""Encoded features: rows of different lengths, and the model inputs of a number of rows."""

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np


@dataclass(frozen=True)
class Jagged:
    """Rows of different lengths."""

    values: np.ndarray
    """int64 ids of all rows, one after the other."""
    lengths: np.ndarray
    """int32 [rows]."""

    @cached_property
    def starts(self) -> np.ndarray:
        """int64 [rows]: where each row begins in ``values``."""
        starts: np.ndarray = np.cumsum(self.lengths) - self.lengths
        return starts

    def take(self, rows: np.ndarray) -> "Jagged":
        """Return the given rows, in that order."""
        lengths = self.lengths[rows]
        total = int(lengths.sum())
        ends = np.cumsum(lengths)
        within = np.arange(total) - np.repeat(ends - lengths, lengths)
        return Jagged(self.values[np.repeat(self.starts[rows], lengths) + within], lengths)


@dataclass(frozen=True)
class EncodedTable:
    """Model inputs of a number of users, items or interactions; features by full name."""

    rows: int
    ids: dict[str, Jagged] = field(default_factory=dict)
    """Categorical and multi-valued features."""
    numbers: dict[str, np.ndarray] = field(default_factory=dict)
    """Numeric features and timestamps: float32 [rows], NaN where missing."""
    vectors: dict[str, np.ndarray] = field(default_factory=dict)
    """Dense vectors and texts: float32 [rows, width], NaN rows where missing."""

    def take(self, rows: np.ndarray) -> "EncodedTable":
        """Return the given rows, in that order."""
        return EncodedTable(
            rows=len(rows),
            ids={k: v.take(rows) for k, v in self.ids.items()},
            numbers={k: v[rows] for k, v in self.numbers.items()},
            vectors={k: v[rows] for k, v in self.vectors.items()},
        )
