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

from rf_platform.features.compared import filterable, marked
from rf_platform.features.spec import FeatureSpec
from rf_serving.catalog.base_segment import BaseSegment
from rf_serving.catalog.snapshot import CatalogSnapshot
from rf_serving.index.vector_index import NO_ROW
from rf_serving.search.columns import MASK_BYTES, ItemColumns, are_among
from rf_serving.search.condition import Clause, ItemFilter
from rf_serving.search.value_codes import NO_VALUE

NO_ROWS: npt.NDArray[np.int64] = np.zeros(0, np.int64)


class Passing:
    """The living rows that pass all conditions, or those of a list that do; shared by the requests that ask for them."""

    def __init__(
        self, mask_N: npt.NDArray[np.bool_] | None = None, rows: npt.NDArray[np.int64] | None = None, total: int = 0
    ) -> None:
        """Keep which rows pass, by a mask or as a list.

        Args:
            mask_N: [N]: which rows pass; not to be written to.
            rows: the rows that pass, rising, where there is no mask.
            total: number of rows N of which these are some.
        """
        self._listed, self._total = rows, total
        if mask_N is not None:
            self.mask = mask_N
        self.listed = rows is not None
        """Whether the rows are a list."""
        self.count = len(rows) if rows is not None else int(np.count_nonzero(self.mask))
        """Number of rows E."""

    @cached_property
    def mask(self) -> npt.NDArray[np.bool_]:
        """[N]: which rows pass."""
        mask_N = np.zeros(self._total, np.bool_)
        mask_N[self._listed] = True
        return mask_N

    @cached_property
    def rows(self) -> npt.NDArray[np.int64]:
        """[E]: the rows, rising."""
        rows: npt.NDArray[np.int64] = np.flatnonzero(self.mask) if self._listed is None else self._listed
        return rows

    def contain(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Return which of the given rows pass."""
        return self.mask[rows] if self._listed is None else are_among(rows, self._listed)


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


@dataclass(frozen=True, eq=False)
class _Base:
    base: BaseSegment
    columns: ItemColumns


class Eligibility:
    """Evaluates filters; keeps what later requests ask for again. Safe from any thread.

    What depends on the items of the base alone is kept until the base changes: the layouts of the features, and the masks of
    single conditions. What depends on the snapshot, which every change of the catalog
    replaces, is kept until the next one.
    """

    def __init__(self, spec: FeatureSpec) -> None:
        self._dtypes = filterable(spec)
        self._marked = marked(spec)
        self._lock = RLock()
        self._bases: list[_Base] = []
        self._delta: tuple[Any, ItemColumns] | None = None
        self._snapshot: CatalogSnapshot | None = None
        self._passing: OrderedDict[frozenset[Clause], Passing] = OrderedDict()

    def of(self, catalog: CatalogSnapshot, asked: ItemFilter) -> Eligible:
        """Return what passes a filter."""
        with self._lock:
            passing = self._where(catalog, asked.where)
        if asked.allow is not None:
            rows = _rows_of(catalog, asked.allow)
            passing = Passing(rows=rows[passing.contain(rows)], total=catalog.rows)
        if not asked.deny:
            return Eligible(passing)
        denied = _rows_of(catalog, asked.deny)
        return Eligible(passing, denied[passing.contain(denied)])

    def all(self, catalog: CatalogSnapshot) -> Eligible:
        """Return the living items: what passes where nothing is filtered."""
        return self.of(catalog, ItemFilter())

    def codes(self, catalog: CatalogSnapshot, feature: str, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int32]:
        """Return the codes of a feature's values in some rows [T, V]; equal values of one snapshot have equal codes."""
        with self._lock:
            base = self._base(catalog).columns
            built = base.codes(feature)
            live = rows >= catalog.base.rows
            delta = self._delta_columns(catalog) if live.any() else None
            changed = None if delta is None else delta.codes(feature, base)
        if changed is None:
            return built.of(rows)
        parts = built.of(rows[~live]), changed.of(rows[live] - catalog.base.rows)
        codes_TV = np.full((len(rows), max(part.shape[1] for part in parts)), NO_VALUE, np.int32)
        for of_part, part in zip((~live, live), parts, strict=True):
            codes_TV[of_part, : part.shape[1]] = part
        return codes_TV

    def warm(self, catalog: CatalogSnapshot, like: "Eligibility | None" = None) -> None:
        """Prepare the base segment of a new catalog for the conditions that were evaluated so far.

        Args:
            catalog: the new snapshot.
            like: eligibility with the conditions to prepare; default: this one.
        """
        source = like or self
        with source._lock:
            latest = source._bases[-1] if source._bases else None
        if latest is None or any(each.base is catalog.base for each in self._bases):
            return
        prepared = self._base_of(catalog.base)
        prepared.columns.prepare_like(latest.columns)
        with self._lock:
            self._bases = [*self._bases[-1:], prepared]

    def _where(self, catalog: CatalogSnapshot, conditions: frozenset[Clause]) -> Passing:
        if catalog is not self._snapshot:
            self._snapshot = catalog
            self._passing.clear()
        if (passing := self._passing.get(conditions)) is not None:
            self._passing.move_to_end(conditions)
            return passing
        passing = self._passing_of(catalog, conditions) if conditions else Passing(catalog.live_mask_N)
        self._passing[conditions] = passing
        if len(self._passing) > max(1, MASK_BYTES // max(1, catalog.rows)):
            self._passing.popitem(last=False)
        return passing

    def _passing_of(self, catalog: CatalogSnapshot, conditions: frozenset[Clause]) -> Passing:
        base, delta, cut = self._base(catalog).columns, self._delta_columns(catalog), catalog.base.rows
        delta_mask = catalog.live_mask_N[cut:].copy()
        if delta is not None:
            for condition in conditions:
                delta_mask &= delta.passes(condition)
        rows = base.few(conditions)
        if rows is None:
            mask_N = np.concatenate([base.all_pass(conditions) & catalog.live_mask_N[:cut], delta_mask])
            mask_N.setflags(write=False)
            return Passing(mask_N)
        rows = rows[catalog.live_mask_N[rows]]
        return Passing(rows=np.concatenate([rows, cut + np.flatnonzero(delta_mask)]), total=catalog.rows)

    def _base(self, catalog: CatalogSnapshot) -> "_Base":
        with self._lock:
            for each in self._bases:
                if each.base is catalog.base:
                    return each
            self._bases = [*self._bases[-1:], self._base_of(catalog.base)]
            return self._bases[-1]

    def _base_of(self, base: BaseSegment) -> "_Base":
        return _Base(base, ItemColumns(base.rows, base.column, self._dtypes, self._marked))

    def _delta_columns(self, catalog: CatalogSnapshot) -> ItemColumns | None:
        table: pa.Table | None = catalog.delta_items
        if table is None or not table.num_rows:
            return None
        if self._delta is None or self._delta[0] is not table:
            columns = ItemColumns(table.num_rows, lambda name: _column_of(table, name), self._dtypes, self._marked)
            self._delta = (table, columns)
        return self._delta[1]


def _column_of(table: pa.Table, name: str) -> pa.ChunkedArray:
    return table[name] if name in table.column_names else pa.chunked_array([pa.nulls(table.num_rows)])


def _rows_of(catalog: CatalogSnapshot, ids: tuple[int | str, ...]) -> npt.NDArray[np.int64]:
    """Return the distinct rows of ids, rising, dead ones too."""
    rows = np.unique(catalog.rows_of(ids))
    known: npt.NDArray[np.int64] = rows[rows != NO_ROW]
    return known
