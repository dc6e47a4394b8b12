"""Rows of different length in two flat arrays."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, eq=False)
class Jagged:
    """Rows of different length: row ``b`` is ``values[offsets[b]:offsets[b + 1]]``; a row may be empty."""

    values: npt.NDArray[np.int32]
    """``[total]``: item rows; in a history the oldest event comes first."""
    offsets: npt.NDArray[np.int64]
    """``[B + 1]``, starting at 0 and ending at ``total``."""

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """``[B]``: number of values of each row."""
        return np.diff(self.offsets)

    @property
    def row_of_value(self) -> npt.NDArray[np.int64]:
        """``[total]``: the row that each value belongs to."""
        return np.repeat(np.arange(len(self), dtype=np.int64), self.lengths)

    def last(self, count: int) -> "Jagged":
        """Return the last ``count`` values of each row, or the whole row where it is shorter."""
        lengths = np.minimum(self.lengths, count)
        return gather(self.values, self.offsets[1:] - lengths, self.offsets[1:])


def gather(values: npt.NDArray[np.integer[Any]], starts: npt.NDArray[np.int64], stops: npt.NDArray[np.int64]) -> Jagged:
    """Copy the slices ``values[starts[b]:stops[b]]`` into a :class:`Jagged` that shares no memory with ``values``."""
    lengths = stops - starts
    offsets = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(lengths)])
    positions = np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], lengths)
    return Jagged(values[positions].astype(np.int32, copy=False), offsets)
