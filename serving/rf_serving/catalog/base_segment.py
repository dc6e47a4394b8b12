"""Base segment of the live catalog: the items of a bundle, or of the last compacted catalog.

Shapes: N items, D width, W width of what a re-ranker keeps of an item.
"""

from collections.abc import Callable, Mapping, Sequence
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
            vectors_ND=bundle.vectors_ND,
            tokens_ND=bundle.item_tokens_ND,
            item_states_NW=bundle.item_states_NW,
            read_items=read_items or (lambda: schema.cast(pq.read_table(bundle.path / files.ITEMS))),
        )

    @property
    def rows(self) -> int:
        """Number of rows N."""
        return len(self.ids)

    def find_rows(self, ids: Ids) -> npt.NDArray[np.int64]:
        """Return the row of each id, :data:`NO_ROW` if there is none; quick for many, if integers stand in rising order."""
        if not isinstance(ids, np.ndarray):
            find = self.row_of.get
            return np.array([find(item, NO_ROW) for item in ids], np.int64)
        rising_N, row_N = self._rows_by_id
        if not len(rising_N):
            return np.full(len(ids), NO_ROW, np.int64)
        place = np.minimum(rising_N.searchsorted(ids), len(rising_N) - 1)
        return np.where(rising_N[place] == ids, row_N[place], NO_ROW).astype(np.int64)

    @cached_property
    def _rows_by_id(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32]]:
        """[N] each: integer ids, rising, and their rows; a dictionary of a million takes a cache miss and more for each id."""
        ids_N = np.array(self.ids, np.int64)
        row_N = np.argsort(ids_N).astype(np.int32)
        return ids_N[row_N], row_N

    @cached_property
    def items(self) -> pa.Table:
        """[N]: id, features and display fields of all rows."""
        return self.read_items()

    def column(self, name: str) -> pa.ChunkedArray:
        """Return a feature or display field of all rows, by full name, in order."""
        return self.items[name]

    def values(self, rows: npt.NDArray[np.int64]) -> list[Values]:
        """Return the features and display fields of some rows."""
        return self.schema.rows(self.items.take(rows))
