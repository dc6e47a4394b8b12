"""Searches behind filters, one query at a time on one thread, the ways taking turns; times are CPU times of that thread.

Shapes: N items, B queries, K results.
"""

from collections.abc import Callable
from dataclasses import dataclass
from time import thread_time
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from rf_bench.filter.catalog import LOT, PRICE, TOPIC, FilteredCatalog
from rf_protos.v1.retrieval_pb2 import SearchPlan
from rf_serving.search import Condition, Eligibility, Eligible, ItemFilter
from rf_serving.search.condition import Operator, Value
from rf_serving.search.costs import SearchCosts
from rf_serving.search.eligibility import NO_ROWS
from rf_serving.search.searcher import Search, Searcher

T = TypeVar("T")
SHARES = (0.5, 0.1, 0.01, 0.001)
LEAST_BY_INDEX = 0.01
"""Share from which the index is tried first: for fewer it would have to return most of the catalog."""
KINDS = {
    "independent": "a number that has nothing to do with the item",
    "price": "a price that follows the topic in part",
    "topics": "whole topics: what passes lies together",
}


@dataclass(frozen=True, kw_only=True)
class Way:
    """One way of searching."""

    ms_p50: float
    ms_p99: float
    recall: float
    """Share of the true K best that were found."""
    least: int
    """Fewest items of an answer."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One filter."""

    kind: str
    share: float
    """Of items that pass."""
    eligible: int
    planned: Way
    """As the server does it."""
    approximate: float
    """Share of queries that the planned way answered from the index."""
    index: Way | None
    """The index first, whatever it costs; None below :data:`LEAST_BY_INDEX`."""
    exact: Way
    """Every eligible item scored."""
    whole: Way
    """The whole catalog scored, and what does not pass dropped: what a filter costs without any structure."""
    first_ms: float
    """Evaluating the filter when it is asked for the first time, the layout of its feature being there."""
    again_ms: float
    """Evaluating it again."""


@dataclass(frozen=True, kw_only=True)
class MeasuredSize:
    """All filters of one catalog."""

    items: int
    costs: SearchCosts
    """By which the planner chooses."""
    filters: list[Measured]


def measure(world: FilteredCatalog, k: int, costs: SearchCosts) -> list[Measured]:
    """Measure all kinds of filters at all shares."""
    return [_measure(world, kind, share, k, costs) for kind in KINDS for share in SHARES]


def _measure(world: FilteredCatalog, kind: str, share: float, k: int, costs: SearchCosts) -> Measured:
    eligibility = Eligibility(world.spec)
    condition = _condition(world, kind, share)
    asked = ItemFilter(where=frozenset({condition}))
    # Another value of the same feature: makes the layout.
    other = Condition(feature=condition.feature, operator=condition.operator, values=condition.values[:1] * 2)
    eligibility.of(world.catalog, ItemFilter(where=frozenset({other})))
    first, eligible = _timed(lambda: eligibility.of(world.catalog, asked))
    again, _ = _timed(lambda: eligibility.of(world.catalog, asked))
    index_first = SearchCosts(gathered=1.0, scanned=1.0, index=tuple((depth, 1e-9) for depth, _ in costs.index[-1:]))
    scan_first = SearchCosts(gathered=costs.gathered, scanned=costs.scanned, index=((1, 1e9),))
    whole_first = SearchCosts(gathered=1e9, scanned=1e-9, index=((1, 1e9),))
    ways = {"planned": costs, "index": index_first, "exact": scan_first, "whole": whole_first}
    searchers = {name: Searcher(each) for name, each in ways.items() if name != "index" or share >= LEAST_BY_INDEX}
    times: dict[str, list[float]] = {name: [] for name in searchers}
    found: dict[str, list[set[int]]] = {name: [] for name in searchers}
    approximate = 0
    for query_D in world.queries_BD:
        search = Search(query_D=query_D, k=k, eligible=eligible, seen=NO_ROWS, filtered=True)
        for name, searcher in searchers.items():
            seconds, (result,) = _timed(lambda searcher=searcher, search=search: searcher.find(world.catalog, [search]))  # type: ignore[misc]
            times[name].append(seconds * 1000)
            found[name].append(set(result.found.rows.tolist()))
            approximate += name == "planned" and result.strategy == SearchPlan.APPROXIMATE
    truth = _truth(world, eligible, k)
    measured = {name: _way(times[name], found[name], truth) for name in searchers}
    return Measured(
        kind=kind,
        share=share,
        eligible=eligible.count,
        approximate=approximate / len(world.queries_BD),
        first_ms=first * 1000,
        again_ms=again * 1000,
        index=measured.pop("index", None),
        **measured,
    )


def _condition(world: FilteredCatalog, kind: str, share: float) -> Condition:
    if kind == "topics":
        topics, counts = np.unique(world.catalog.base.column(TOPIC).to_numpy(), return_counts=True)
        order = np.random.default_rng(0).permutation(len(topics))
        enough = int(np.searchsorted(np.cumsum(counts[order]), share * world.catalog.rows)) + 1
        values: tuple[Value, ...] = tuple(sorted(topics[order[:enough]].tolist()))
        return Condition(feature=TOPIC, operator=Operator.ANY_OF, values=values)
    feature = PRICE if kind == "price" else LOT
    bound = float(np.quantile(world.catalog.base.column(feature).to_numpy(), share))
    return Condition(feature=feature, operator=Operator.LESS, values=(bound,))


def _truth(world: FilteredCatalog, eligible: Eligible, k: int) -> list[set[int]]:
    """Return the true results, by one plain product for each query."""
    rows_E = eligible.passing.rows
    vectors_ED: npt.NDArray[np.float32] = world.catalog.vectors(rows_E)
    return [
        set(rows_E[np.argsort(-(vectors_ED @ query_D), kind="stable")[:k]].tolist()) for query_D in world.queries_BD
    ]


def _way(times: list[float], found: list[set[int]], truth: list[set[int]]) -> Way:
    return Way(
        ms_p50=float(np.percentile(times, 50)),
        ms_p99=float(np.percentile(times, 99)),
        recall=float(np.mean([len(mine & true) / len(true) for mine, true in zip(found, truth, strict=True)])),
        least=min(map(len, found)),
    )


def _timed(work: Callable[[], T]) -> tuple[float, T]:
    begin = thread_time()
    result = work()
    return thread_time() - begin, result
