"""Eligible items: those of a catalog snapshot that pass a filter.

Shapes: N rows of the snapshot, E eligible rows.
"""

from collections import OrderedDict
from dataclasses import dataclass, field
from functools import cached_property
from threading import RLock
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from rf_platform.features.spec import FeatureSpec
from rf_serving.catalog.snapshot import CatalogSnapshot
from rf_serving.index.vector_index import NO_ROW
from rf_serving.search.columns import MASK_BYTES, ItemColumns
from rf_serving.search.condition import Condition, ItemFilter
from rf_serving.search.filter_reader import filterable

NO_ROWS: npt.NDArray[np.int64] = np.zeros(0, np.int64)


class Passing:
    """The living rows that pass all conditions, or those of a list that do; shared by the requests that ask for them."""

    def __init__(self, mask_N: npt.NDArray[np.bool_], rows: npt.NDArray[np.int64] | None = None) -> None:
        """Keep which rows pass.

        Args:
            mask_N: [N]: which rows pass the conditions; not to be written to.
            rows: the rows among them that pass, if a list says which; rising.
        """
        self.mask_N, self._listed = mask_N, rows
        self.listed = rows is not None
        """Whether the rows come from a list."""
        self.count = int(np.count_nonzero(mask_N)) if rows is None else len(rows)
        """Number of rows E."""

    @cached_property
    def rows(self) -> npt.NDArray[np.int64]:
        """[E]: the rows, rising."""
        rows: npt.NDArray[np.int64] = np.flatnonzero(self.mask_N) if self._listed is None else self._listed
        return rows

    def contain(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Return which of the given rows pass."""
        return self.mask_N[rows] if self._listed is None else are_among(rows, self._listed)


@dataclass(frozen=True, eq=False)
class Eligible:
    """Items that a request may be answered with, before seen items are left out."""

    passing: Passing
    denied: npt.NDArray[np.int64] = field(default_factory=lambda: NO_ROWS)
    """Distinct rows among those passing that the request refuses, rising."""

    @property
    def count(self) -> int:
        """Number of rows that may be returned."""
        return self.passing.count - len(self.denied)

    def excluded(self, seen: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return the distinct passing rows that may not be returned [X], rising: those denied, and those of ``seen``."""
        if not len(seen):
            return self.denied
        rows = np.sort(np.concatenate([seen, self.denied]) if len(self.denied) else seen)
        is_last = np.ones(len(rows), np.bool_)
        np.not_equal(rows[1:], rows[:-1], out=is_last[:-1])
        rows = rows[is_last]
        return rows[self.passing.contain(rows)]


class Eligibility:
    """Evaluates filters; keeps what later requests ask for again. Safe from any thread.

    What depends on the items of the base alone is kept until the base changes: the layouts of the features, and the masks of
    single conditions. What depends on the snapshot, which every change of the catalog replaces, is kept until the next one.
    """

    def __init__(self, spec: FeatureSpec) -> None:
        self._dtypes = filterable(spec)
        self._marked = frozenset(f.name for f in spec.carried("item") if f.kind in ("categorical", "multi"))
        self._lock = RLock()
        self._bases: list[tuple[Any, ItemColumns]] = []
        self._delta: tuple[Any, ItemColumns] | None = None
        self._snapshot: CatalogSnapshot | None = None
        self._passing: OrderedDict[frozenset[Condition], Passing] = OrderedDict()

    def of(self, catalog: CatalogSnapshot, asked: ItemFilter) -> Eligible:
        """Return what passes a filter."""
        with self._lock:
            passing = self._where(catalog, asked.where)
        if asked.allow is not None:
            rows = _rows_of(catalog, asked.allow)
            passing = Passing(passing.mask_N, rows[passing.mask_N[rows]])
        if not asked.deny:
            return Eligible(passing)
        denied = _rows_of(catalog, asked.deny)
        return Eligible(passing, denied[passing.contain(denied)])

    def all(self, catalog: CatalogSnapshot) -> Eligible:
        """Return the living items: what passes where nothing is filtered."""
        return self.of(catalog, ItemFilter())

    def warm(self, catalog: CatalogSnapshot, like: "Eligibility | None" = None) -> None:
        """Prepare the base segment of a new catalog for the conditions that were evaluated so far.

        Args:
            catalog: the new snapshot.
            like: eligibility with the conditions to prepare; default: this one.
        """
        source = like or self
        with source._lock:
            latest = source._bases[-1][1] if source._bases else None
        if latest is None or any(base is catalog.base for base, _ in self._bases):
            return
        columns = self._columns_of(catalog.base)
        columns.prepare_like(latest)
        with self._lock:
            self._bases = [*self._bases[-1:], (catalog.base, columns)]

    def _where(self, catalog: CatalogSnapshot, conditions: frozenset[Condition]) -> Passing:
        if catalog is not self._snapshot:
            self._snapshot = catalog
            self._passing.clear()
        if (passing := self._passing.get(conditions)) is not None:
            self._passing.move_to_end(conditions)
            return passing
        mask_N = self._mask(catalog, conditions) if conditions else catalog.live_mask_N
        passing = Passing(mask_N)
        self._passing[conditions] = passing
        if len(self._passing) > max(1, MASK_BYTES // max(1, catalog.rows)):
            self._passing.popitem(last=False)
        return passing

    def _mask(self, catalog: CatalogSnapshot, conditions: frozenset[Condition]) -> npt.NDArray[np.bool_]:
        base, delta = self._base_columns(catalog), self._delta_columns(catalog)
        mask_N = catalog.live_mask_N.copy()
        cut = catalog.base.rows
        for condition in conditions:
            mask_N[:cut] &= base.passes(condition)
            if delta is not None:
                mask_N[cut:] &= delta.passes(condition)
        mask_N.setflags(write=False)
        return mask_N

    def _base_columns(self, catalog: CatalogSnapshot) -> ItemColumns:
        for base, columns in self._bases:
            if base is catalog.base:
                return columns
        columns = self._columns_of(catalog.base)
        self._bases = [*self._bases[-1:], (catalog.base, columns)]
        return columns

    def _columns_of(self, base: Any) -> ItemColumns:
        return ItemColumns(base.rows, base.column, self._dtypes, self._marked)

    def _delta_columns(self, catalog: CatalogSnapshot) -> ItemColumns | None:
        table: pa.Table | None = catalog.delta_items
        if table is None or not table.num_rows:
            return None
        if self._delta is None or self._delta[0] is not table:
            columns = ItemColumns(table.num_rows, lambda name: _column_of(table, name), self._dtypes, self._marked)
            self._delta = (table, columns)
        return self._delta[1]


def are_among(rows: npt.NDArray[np.int64], rising: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Return which rows are among some distinct ones, given in order: ``np.isin`` takes ten times as long for so few."""
    if not len(rising):
        return np.zeros(len(rows), np.bool_)
    found: npt.NDArray[np.bool_] = rising[np.minimum(rising.searchsorted(rows), len(rising) - 1)] == rows
    return found


def _column_of(table: pa.Table, name: str) -> pa.ChunkedArray:
    return table[name] if name in table.column_names else pa.chunked_array([pa.nulls(table.num_rows)])


def _rows_of(catalog: CatalogSnapshot, ids: tuple[int | str, ...]) -> npt.NDArray[np.int64]:
    """Return the distinct rows of ids, rising, dead ones too."""
    rows = np.unique(catalog.rows_of(ids))
    known: npt.NDArray[np.int64] = rows[rows != NO_ROW]
    return known
