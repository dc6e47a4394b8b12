"""Base segment of the live catalog: the items of a bundle, or of the last compacted catalog.

Shapes: N items, D width, W width of what a re-ranker keeps of an item.
"""

from array import array
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from rf_platform.bundle import files
from rf_platform.features.seen import Ids
from rf_serving.bundle.served import ServedBundle
from rf_serving.catalog.item_schema import ItemSchema, Values
from rf_serving.index import VectorIndex
from rf_serving.index.vector_index import NO_ROW

_SPARSEST = 4
"""Numbers from the least id to the largest, for each item, up to which a table of all of them is kept."""


@dataclass(frozen=True, eq=False, kw_only=True)
class BaseSegment:
    """Immutable segment of items with an index; what is derived from one may be kept with it."""

    path: Path
    """Directory of its files."""
    schema: ItemSchema
    ids: Sequence[int | str]
    """[N]: id of each row."""
    row_of: Mapping[int | str, int]
    index: VectorIndex
    vectors_ND: npt.NDArray[np.float32]
    tokens_ND: npt.NDArray[np.float32]
    """Item parts of interaction tokens."""
    read_items: Callable[[], pa.Table]
    """Reads the features of all rows, in the form of ``schema``."""
    item_states_NW: npt.NDArray[np.floating] | None = None
    """Item states of the bundle's re-ranker; None if it has none."""
    sequence: int = 0
    """Last change of the catalog that is in it; 0 for a bundle as it was built."""
    sequence_N: npt.NDArray[np.int64] | None = None
    """[N]: the change that made each item what it is, 0 for none; None for a bundle as it was built."""

    @classmethod
    def of(cls, bundle: ServedBundle, read_items: Callable[[], pa.Table] | None = None) -> "BaseSegment":
        """Return the items of a bundle; ``read_items`` where the features are in a better place than its file."""
        schema = ItemSchema.of(bundle.encoder)
        return cls(
            path=bundle.path,
            schema=schema,
            ids=bundle.item_ids,
            row_of=bundle.row_of_item,
            index=bundle.index,
            # Not as the mapped arrays that they are: those take a microsecond longer to index.
            vectors_ND=np.asarray(bundle.vectors_ND),
            tokens_ND=np.asarray(bundle.item_tokens_ND),
            item_states_NW=bundle.item_states_NW,
            read_items=read_items or (lambda: schema.cast(pq.read_table(bundle.path / files.ITEMS))),
        )

    @property
    def rows(self) -> int:
        """Number of rows N."""
        return len(self.ids)

    def find_rows(self, ids: Ids | Sequence[int | str]) -> npt.NDArray[np.int64]:
        """Return the row of each id, :data:`NO_ROW` if there is none; quick for many, if ids are integers."""
        if self.numbers is not None:
            if isinstance(ids, np.ndarray):
                return self._rows_by_number.of(ids)
            with suppress(TypeError, OverflowError):  # there may be others than integers in a store
                numbers: array[int] = array("q", ids)  # type: ignore[arg-type]
                return self._rows_by_number.of(np.frombuffer(numbers, np.int64))
        find = self.row_of.get
        return np.array([find(item, NO_ROW) for item in ids], np.int64)

    @cached_property
    def numbers(self) -> npt.NDArray[np.int64] | None:
        """[N]: integer ids; None where ids are texts."""
        if len(self.ids) and isinstance(self.ids[0], str):
            return None
        return np.array(self.ids, np.int64)

    @cached_property
    def _rows_by_number(self) -> "_RowsByNumber":
        assert self.numbers is not None
        return _RowsByNumber(self.numbers)

    @cached_property
    def items(self) -> pa.Table:
        """[N]: id, features and display fields of all rows."""
        return self.read_items()

    @cached_property
    def offered_rows(self) -> npt.NDArray[np.bool_]:
        """[N]: whether the item of each row is offered; the others are in the catalog and in histories only."""
        if self.schema.recommendable is None:
            return np.ones(self.rows, np.bool_)
        return self.schema.offered(self.items)

    def column(self, name: str) -> pa.ChunkedArray:
        """Return a feature or display field of all rows, by full name, in order."""
        return self.items[name]

    def values(self, rows: npt.NDArray[np.int64]) -> list[Values]:
        """Return the features and display fields of some rows."""
        return self.schema.rows(self.items.take(rows))


class _RowsByNumber:
    """Rows of integer ids, in arrays: a dictionary of a million takes a cache miss and more for each id."""

    def __init__(self, number_N: npt.NDArray[np.int64]) -> None:
        self._least = number_N.min() if len(number_N) else np.int64(0)
        span = int(number_N.max()) - int(self._least) + 1 if len(number_N) else 0
        self._table: npt.NDArray[np.int32] | None = None
        """Row by id less the least, and :data:`NO_ROW` behind the last; None where ids lie too far apart."""
        if span <= _SPARSEST * len(number_N):
            self._table = np.full(span + 1, NO_ROW, np.int32)
            self._table[number_N - self._least] = np.arange(len(number_N))
        else:
            self._row_N = np.argsort(number_N).astype(np.int32)
            self._rising_N = number_N[self._row_N]

    def of(self, ids: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return the row of each id, :data:`NO_ROW` if there is none."""
        if self._table is not None:
            # Without a sign, what lies below the least lies far beyond the last.
            place = np.minimum((ids - self._least).view(np.uint64), np.uint64(len(self._table) - 1))
            return self._table[place.view(np.int64)].astype(np.int64)
        place = np.minimum(self._rising_N.searchsorted(ids), len(self._rising_N) - 1)
        return np.where(self._rising_N[place] == ids, self._row_N[place], NO_ROW).astype(np.int64)
