"""Lists of one bundle's catalog, made anew when counts or catalog have changed.

Shapes: S items that were counted, E items that may be listed.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Lock
from time import monotonic

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from rf_platform.features.event_weights import EventWeights
from rf_platform.policies import ListDefinition
from rf_serving.catalog.snapshot import CatalogSnapshot
from rf_serving.event_counts import Counted, CountOf, FirstOf
from rf_serving.lists.definition import counts_of, scores_of
from rf_serving.search.condition import Clause, ItemFilter
from rf_serving.search.eligibility import Eligibility

FRESH_SECONDS = 1.0
"""Age up to which a list is returned again though counts or catalog have changed."""
_MOST_KEPT = 256

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class ListQuery:
    """A list, and which of it."""

    definition: ListDefinition
    where: frozenset[Clause] = field(default_factory=frozenset)
    """Conditions of the definition, and those of the category that is asked for, in the terms of the bundle."""
    weights: EventWeights | None = None
    """Weights of events, where the definition has none; None: all alike."""

    @property
    def counts(self) -> tuple[CountOf | FirstOf, ...]:
        """Counts that the list is made of."""
        return counts_of(self.definition, self.weights)


@dataclass(frozen=True, eq=False)
class _Kept:
    ids: list[int | str]
    """Best first."""
    counted: Counted | None
    catalog: int
    made: float


class Lists:
    """Makes lists when they are asked for, and keeps each for a moment. Safe from any thread."""

    def __init__(
        self,
        eligibility: Eligibility,
        counted: Callable[[], Counted | None],
        clock: Callable[[], float] = monotonic,
    ) -> None:
        """Take what lists are made of.

        Args:
            eligibility: evaluates the conditions of lists.
            counted: returns the newest counts; None: there are none yet.
            clock: in seconds.
        """
        self._eligibility, self._counted, self._clock = eligibility, counted, clock
        self._lock = Lock()
        self._kept: dict[ListQuery, _Kept] = {}

    def rows(self, query: ListQuery, catalog: CatalogSnapshot) -> Rows:
        """Return the rows of a list's items in a catalog, best first, those of equal score by their ids.

        A list holds items with events only, at most as many as its definition says, and none before events were counted.
        """
        rows = catalog.rows_of(self._ids(query, catalog))
        rows = rows[rows >= 0]
        return rows[catalog.live_mask_N[rows]]

    def _ids(self, query: ListQuery, catalog: CatalogSnapshot) -> list[int | str]:
        counted, now = None if query.definition.feature is not None else self._counted(), self._clock()
        with self._lock:
            kept = self._kept.get(query)
            if kept is not None:
                same = kept.counted is counted and kept.catalog == catalog.sequence
                if same or now < kept.made + FRESH_SECONDS:
                    return kept.ids
            ids = self._made(query, counted, catalog)
            if len(self._kept) >= _MOST_KEPT:
                self._kept.clear()
            self._kept[query] = _Kept(ids, counted, catalog.sequence, now)
            return ids

    def _made(self, query: ListQuery, counted: Counted | None, catalog: CatalogSnapshot) -> list[int | str]:
        definition = query.definition
        passing = self._eligibility.of(catalog, ItemFilter(where=query.where)).passing
        if (feature := definition.feature) is not None:
            rows, scores = passing.rows, _times(catalog, feature, passing.rows)
            known = ~np.isnan(scores)
            return _best(rows[known], scores[known], catalog, definition.length)
        if counted is None or (scores_S := scores_of(definition, counted, query.weights)) is None or not len(scores_S):
            return []
        rows_S = catalog.find_rows(counted.ids[: len(scores_S)])
        there = (rows_S >= 0) & (scores_S > 0)
        rows, scores = rows_S[there], scores_S[there]
        may = passing.contain(rows) if len(rows) else np.zeros(0, np.bool_)
        return _best(rows[may], scores[may], catalog, definition.length)


def _best(rows: Rows, scores: npt.NDArray[np.float64], catalog: CatalogSnapshot, most: int) -> list[int | str]:
    if len(rows) > most:
        least = np.partition(scores, -most)[-most]
        rows, scores = rows[scores >= least], scores[scores >= least]
    whole = catalog.bundle.spec.item.id_type == "int64"
    ids = [int(text) if whole else text for text in catalog.texts(rows.tolist())]
    ranked = sorted(zip((-scores).tolist(), ids, strict=True))
    return [item for _, item in ranked[:most]]


def _times(catalog: CatalogSnapshot, feature: str, rows: Rows) -> npt.NDArray[np.float64]:
    """Return a time feature of some rows [E], in microseconds since 1970; NaN where it is missing."""
    if not len(rows):
        return np.zeros(0)
    parts = [catalog.base.column(feature)]
    if (changed := catalog.delta_items) is not None:
        parts.append(changed[feature] if feature in changed.column_names else pa.nulls(changed.num_rows))
    columns = [_microseconds(each) for each in parts]
    found: npt.NDArray[np.float64] = np.concatenate(columns)[rows]
    return found


def _microseconds(column: pa.ChunkedArray) -> npt.NDArray[np.float64]:
    if pa.types.is_null(column.type):
        return np.full(len(column), np.nan)
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.timestamp("us", tz=column.type.tz)).cast(pa.int64())
    values: npt.NDArray[np.float64] = column.cast(pa.float64()).to_numpy(zero_copy_only=False)
    return values
