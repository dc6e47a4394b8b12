"""Stages "search" and "filter": the best eligible items of each request, by the cheapest way that finds them.

Shapes: B requests, K results, X excluded rows, D width.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np
import numpy.typing as npt

from rf_protos.v1.retrieval_pb2 import SearchPlan
from rf_serving.catalog.snapshot import CatalogSnapshot
from rf_serving.index import Found
from rf_serving.index.tune import TUNED_FOR
from rf_serving.index.vector_index import NO_ROW
from rf_serving.search.costs import SearchCosts
from rf_serving.search.eligibility import Eligible, Passing, are_among
from rf_serving.search.scan import scan_passing

OVERFETCH = 4
"""Factor on the number of items that a filter is expected to need, in searches of an ANN index: of those it returns it finds
the first ones best, and too few pass less often."""
LEAST_FILTERED = 128
"""Least number asked for behind a filter. Up to 100 an index makes the effort that finds 95% of them, for more a larger one,
which finds all but 0.5% of the first quarter: ``docs/filters.md`` has the figures, ``rf bench filter`` measures them."""
LEAST = 16
ENOUGH = 1024
"""Most results that are asked for on account of seen items, unless twice ``k`` is more: beyond, the effort of an index grows in
proportion. A user with thousands of seen items nearly always has ``k`` others among the first thousand; if not, a scan runs."""


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
    depth: int = 0
    """Results to ask of the index; 0 for an exact search among what passes."""

    @property
    def needed(self) -> int:
        """Results that are enough whatever of them is excluded."""
        return self.search.k + len(self.excluded)

    @property
    def asked(self) -> int:
        """Results that are asked of an index; see :func:`likely_enough`."""
        return likely_enough(self.search.k, len(self.excluded))

    @property
    def wanted(self) -> int:
        """Results that there are to be found."""
        return min(self.search.k, self.search.eligible.passing.count - len(self.excluded))


class Searcher:
    """Finds items in one snapshot of the catalog after the other.

    Without a filter the index is asked. With one, either every item that passes is scored, or an index that is approximate or on
    a CUDA device is asked for more items than needed and what does not pass is dropped, whichever costs less; where too few are
    left, every item that passes is scored after all. So a filter never costs more than twice the exact search, and never makes an
    answer short.
    """

    def __init__(self, costs: SearchCosts) -> None:
        self.costs = costs

    def find(self, catalog: CatalogSnapshot, searches: Sequence[Search]) -> list[Result]:
        """Search for all requests of a batch; those that can be searched together are."""
        results: dict[int, Result] = {}
        by_depth: dict[int, list[_Plan]] = defaultdict(list)
        to_scan: list[_Plan] = []
        for number, search in enumerate(searches):
            plan = self._plan(catalog, number, search)
            (by_depth[plan.depth] if plan.depth else to_scan).append(plan)
        whole = catalog.base.index.exact
        for depth, plans in by_depth.items():
            found = catalog.search(np.stack([plan.search.query_D for plan in plans]), depth)
            for plan, rows, scores in zip(plans, found.rows, found.scores, strict=True):
                kept = _kept(plan, Found(rows, scores))
                if len(kept.rows) < plan.wanted:
                    to_scan.append(plan)
                else:
                    results[plan.number] = Result(kept, SearchPlan.EXACT if whole else SearchPlan.APPROXIMATE)
        for plan, found in self._scan(catalog, to_scan):
            results[plan.number] = Result(_kept(plan, found), SearchPlan.EXACT)
        return [results[number] for number in range(len(searches))]

    def _plan(self, catalog: CatalogSnapshot, number: int, search: Search) -> _Plan:
        plan = _Plan(number, search, search.eligible.excluded(search.seen))
        if not search.filtered:
            plan.depth = depth_of(plan.asked)
        elif (catalog.base.index.on_device or not catalog.base.index.exact) and plan.wanted > 0:
            share = search.eligible.passing.count / catalog.alive
            depth = max(LEAST_FILTERED, depth_of(ceil(OVERFETCH * plan.asked / share)))
            exact = self.costs.exact(search.eligible.passing.count, catalog.rows)
            if depth < catalog.alive and self.costs.approximate(depth) < exact:
                plan.depth = depth
        return plan

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


def likely_enough(k: int, excluded: int) -> int:
    """Return how many results leave ``k`` when excluded rows are dropped: certainly, or, where these are many, most likely."""
    return min(k + excluded, max(2 * k, ENOUGH))


def depth_of(needed: int) -> int:
    """Return how many results are asked of the index where ``needed`` are enough: one of few numbers.

    So requests can be searched together, and what is found for one does not depend on the others: an index may search more widely
    for more results. The numbers lie closer together where one more result costs much more: up to 100 an index makes less effort
    than beyond, and beyond 1,000 its effort grows in proportion.
    """
    if needed <= TUNED_FOR[0]:
        return min(TUNED_FOR[0], max(LEAST, _power_above(needed)))
    if needed <= 1024:
        return _power_above(needed)
    step = _power_above(needed) // 16
    return -(-needed // step) * step


def _power_above(number: int) -> int:
    return 1 << (number - 1).bit_length()


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
