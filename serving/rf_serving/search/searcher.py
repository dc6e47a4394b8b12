"""Stages "search" and "filter": the best eligible items of each request, by the cheapest way that finds them.

Shapes: B requests, K results, X excluded rows, D width.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import ceil

import numpy as np
import numpy.typing as npt

from rf_protos.v1.retrieval_pb2 import SearchPlan
from rf_serving.catalog.snapshot import CatalogSnapshot
from rf_serving.index import Found, MilvusIndex
from rf_serving.index.vector_index import NO_ROW
from rf_serving.search.columns import are_among
from rf_serving.search.condition import Clause
from rf_serving.search.costs import SearchCosts
from rf_serving.search.depths import ENOUGH, depth_of, depths, search_deeper
from rf_serving.search.eligibility import Eligible, Passing
from rf_serving.search.pushed_filter import expression_of
from rf_serving.search.scan import scan_passing

OVERFETCH = 4
"""Factor on the number of items that a filter is expected to need, in searches of an ANN index: of those it returns it finds
the first ones best, and too few pass less often."""
LEAST_FILTERED = 128
"""Least number asked for behind a filter. Up to 100 an index makes the effort that finds 95% of them, for more a larger one,
which finds all but 0.5% of the first quarter: ``docs/filters.md`` has the figures, ``rf bench filter`` measures them."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Search:
    """Search of one request."""

    query_D: npt.NDArray[np.float32]
    k: int
    eligible: Eligible
    seen: npt.NDArray[np.int64]
    """Rows that are left out, because the user has seen them."""
    filtered: bool
    """Whether the request has a filter."""
    where: frozenset[Clause] = frozenset()
    """The filter, as far as an engine can be told; empty where it cannot."""

    @cached_property
    def excluded(self) -> npt.NDArray[np.int64]:
        """Distinct eligible rows that must not be returned, rising."""
        return self.eligible.excluded(self.seen)


@dataclass(frozen=True, eq=False)
class Result:
    """The best rows that may be returned, and how they were found."""

    found: Found
    strategy: "SearchPlan.Strategy"


@dataclass(eq=False)
class _Plan:
    number: int
    search: Search
    excluded: npt.NDArray[np.int64]
    """Rows among those that pass which must not be returned."""
    depths: tuple[int, ...] = ()
    """Results to ask of the index, one after the other until enough are left; none for an exact search among what passes."""
    expression: str | None = None
    """The filter, for an engine that filters itself."""

    @property
    def needed(self) -> int:
        """Results that are enough whatever of them is excluded."""
        return self.search.k + len(self.excluded)

    @property
    def wanted(self) -> int:
        """Results that there are to be found."""
        return min(self.search.k, self.search.eligible.passing.count - len(self.excluded))


class Searcher:
    """Finds items in one snapshot of the catalog after the other.

    Without a filter the index is asked. With one, either every item that passes is scored, or an index that is approximate or on
    a CUDA device is asked for more items than needed and what does not pass is dropped, whichever costs less; where too few are
    left, every item that passes is scored after all. An engine that holds the index is told the filter, and drops by itself. So a
    filter never costs more than twice the exact search, and never makes an answer short.
    """

    def __init__(self, costs: SearchCosts) -> None:
        self.costs = costs

    def find(self, catalog: CatalogSnapshot, searches: Sequence[Search]) -> list[Result]:
        """Search for all requests of a batch; those that can be searched together are."""
        results: dict[int, Result] = {}
        plans = [self._plan(catalog, number, search) for number, search in enumerate(searches)]
        whole = SearchPlan.EXACT if catalog.base.index.exact else SearchPlan.APPROXIMATE

        def search(numbers: list[int], depth: int) -> Found:
            by_expression: dict[str | None, list[int]] = defaultdict(list)
            for place, number in enumerate(numbers):
                by_expression[plans[number].expression].append(place)
            found = Found(np.full((len(numbers), depth), NO_ROW, np.int64), np.zeros((len(numbers), depth), np.float32))
            for expression, places in by_expression.items():
                queries_BD = np.stack([searches[numbers[place]].query_D for place in places])
                some = (
                    catalog.search(queries_BD, depth)
                    if expression is None
                    else catalog.search_where(queries_BD, depth, expression)
                )
                if len(by_expression) == 1:
                    return some
                found.rows[places, : some.rows.shape[1]] = some.rows
                found.scores[places, : some.rows.shape[1]] = some.scores
            return found

        def take(numbers: list[int], found: Found) -> Iterator[bool]:
            for number, rows, scores in zip(numbers, found.rows, found.scores, strict=True):
                kept = _kept(plans[number], Found(rows, scores))
                results[number] = Result(kept, whole)
                yield len(kept.rows) >= plans[number].wanted

        short = search_deeper([plan.depths for plan in plans], search, take)
        for plan, found in self._scan(catalog, [plans[number] for number in short]):
            results[plan.number] = Result(_kept(plan, found), SearchPlan.EXACT)
        return [results[number] for number in range(len(searches))]

    def _plan(self, catalog: CatalogSnapshot, number: int, search: Search) -> _Plan:
        plan = _Plan(number, search, search.excluded)
        if not search.filtered:
            plan.depths = depths(search.k, len(plan.excluded))
        elif (expression := self._pushed(catalog, search)) is not None and plan.wanted > 0:
            depth = depth_of(min(plan.needed, max(2 * search.k, ENOUGH)))
            if self.costs.approximate(depth) < self.costs.exact(search.eligible.passing.count, catalog.rows):
                plan.depths, plan.expression = (depth,), expression
        elif (catalog.base.index.on_device or not catalog.base.index.exact) and plan.wanted > 0:
            share = search.eligible.passing.count / catalog.alive
            most = min(plan.needed, max(2 * search.k, ENOUGH))
            depth = max(LEAST_FILTERED, depth_of(ceil(OVERFETCH * most / share)))
            exact = self.costs.exact(search.eligible.passing.count, catalog.rows)
            if depth < catalog.alive and self.costs.approximate(depth) < exact:
                plan.depths = (depth,)
        return plan

    def _pushed(self, catalog: CatalogSnapshot, search: Search) -> str | None:
        """Return a filter in the language of the index's engine; None where there is none, or it cannot say it."""
        index = catalog.base.index
        return expression_of(search.where, index.fields) if isinstance(index, MilvusIndex) and search.where else None

    def _scan(self, catalog: CatalogSnapshot, plans: list[_Plan]) -> list[tuple[_Plan, Found]]:
        by_passing: dict[Passing, list[_Plan]] = defaultdict(list)
        for plan in plans:
            by_passing[plan.search.eligible.passing].append(plan)
        done: list[tuple[_Plan, Found]] = []
        for passing, together in by_passing.items():
            queries_BD = np.stack([plan.search.query_D for plan in together])
            ks = [plan.needed for plan in together]
            done += zip(together, scan_passing(catalog, passing, queries_BD, ks, self.costs.whole_share), strict=True)
        return done


def _kept(plan: _Plan, found: Found) -> Found:
    """Return the best of what was found that may be returned."""
    rows, scores, k = found.rows, found.scores, plan.search.k
    there = rows != NO_ROW
    if not there.all():
        rows, scores = rows[there], scores[there]
    if plan.search.filtered:
        keep = plan.search.eligible.passing.contain(rows)
        rows, scores = rows[keep], scores[keep]
    if len(plan.excluded):
        keep = ~are_among(rows, plan.excluded)
        rows, scores = rows[keep], scores[keep]
    return Found(rows=rows[:k], scores=scores[:k])
