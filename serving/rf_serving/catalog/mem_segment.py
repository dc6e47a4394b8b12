"""The items that were added or changed since the base was made.

Rows are only ever appended, in places that no snapshot looks at yet, so all snapshots share them.

Shapes: M rows of the delta, D width of vectors, E width of tokens, W width of what a re-ranker keeps of an item.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from rf_serving.bundle.reranker import no_item_states
from rf_serving.catalog.base_segment import BaseSegment
from rf_serving.index.vector_index import NO_ROW

_FIRST_CAPACITY = 256
_MOST_CHUNKS = 64


@dataclass(frozen=True, eq=False)
class LiveItems:
    """Items on their way into a delta."""

    ids: Sequence[int | str]
    sequences: Sequence[int]
    """The change of each."""
    table: pa.Table
    """Id, features and display fields."""
    vectors: npt.NDArray[np.float32]
    """[M, D]: what is searched."""
    tokens: npt.NDArray[np.float32]
    """[M, E]: what interactions with them are made of."""
    item_states: npt.NDArray[np.floating]
    """[M, W]: what the re-ranker keeps of them; W is 0 without one."""


class DeltaView(NamedTuple):
    """The first rows of a delta, as one snapshot has them."""

    delta: "MemSegment"
    items: pa.Table
    """[M]: id, features and display fields."""
    vectors_MD: npt.NDArray[np.float32]
    tokens_ME: npt.NDArray[np.float32]
    item_states_MW: npt.NDArray[np.floating]

    @property
    def rows(self) -> int:
        """Number of rows M."""
        return len(self.vectors_MD)


class MemSegment:
    """Collects rows behind those of a base; one thread appends, any number read."""

    def __init__(self, base: BaseSegment) -> None:
        self._base = base
        self.ids: list[int | str] = []
        """[M], as is the next."""
        self.sequences: list[int] = []
        self._earlier: list[int] = []
        self._newest: dict[int | str, int] = {}
        self._vectors = np.empty((_FIRST_CAPACITY, base.vectors_ND.shape[1]), np.float32)
        self._tokens = np.empty((_FIRST_CAPACITY, base.tokens_ND.shape[1]), np.float32)
        kept = no_item_states(0) if base.item_states_NW is None else base.item_states_NW
        self._item_states = np.empty((_FIRST_CAPACITY, kept.shape[1]), kept.dtype)
        self._items = base.schema.arrow.empty_table()

    @property
    def rows(self) -> int:
        """Number of rows M."""
        return len(self.ids)

    def append(self, items: LiveItems) -> npt.NDArray[np.int64]:
        """Append rows and return the rows, counted from the base's first, that they replace, :data:`NO_ROW` for a new item."""
        begin, end = self.rows, self.rows + len(items.ids)
        self._reserve(end)
        self._vectors[begin:end], self._tokens[begin:end] = items.vectors, items.tokens
        self._item_states[begin:end] = items.item_states
        replaced = np.array([self.row_of(item) for item in items.ids], np.int64)
        chunks = pa.concat_tables([self._items, items.table])
        many = bool(chunks.columns) and chunks.column(0).num_chunks > _MOST_CHUNKS
        self._items = chunks.combine_chunks() if many else chunks
        self._earlier.extend(replaced.tolist())
        self.sequences.extend(items.sequences)
        self.ids.extend(items.ids)
        first = self._base.rows
        self._newest.update((item, first + begin + n) for n, item in enumerate(items.ids))
        return replaced

    def row_of(self, item: int | str, rows: int | None = None) -> int:
        """Return the newest row of an item among the first ``rows``, the base's included; :data:`NO_ROW` if there is none."""
        row = self._newest.get(item)
        if row is None:
            return self._base.row_of.get(item, NO_ROW)
        while rows is not None and row >= rows:
            row = self._earlier[row - self._base.rows]
        return row

    def among(self, items: Sequence[int | str]) -> list[tuple[int, int | str]]:
        """Return place and id of those of some items that have a row of the delta."""
        return [(place, item) for place, item in enumerate(items) if item in self._newest]

    def view(self) -> DeltaView:
        """Return what is there now."""
        rows = self.rows
        return DeltaView(self, self._items, self._vectors[:rows], self._tokens[:rows], self._item_states[:rows])

    def _reserve(self, rows: int) -> None:
        if rows > len(self._vectors):
            self._vectors, self._tokens = _grown(self._vectors, rows), _grown(self._tokens, rows)
            self._item_states = _grown(self._item_states, rows)


def _grown(array: npt.NDArray[Any], rows: int) -> npt.NDArray[Any]:
    larger = np.empty((max(rows, 2 * len(array)), array.shape[1]), array.dtype)
    larger[: len(array)] = array
    return larger
