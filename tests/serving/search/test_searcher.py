"""A filter never makes an answer short or wrong, whatever the index misses and whatever the catalog's state."""

from collections.abc import Callable
from dataclasses import replace
from math import inf
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rf_protos.v1.retrieval_pb2 import SearchPlan
from rf_serving.index import ExactIndex, Found, IvfPqIndex, VectorIndex
from rf_serving.index.hnsw import HnswIndex
from rf_serving.index.vector_index import NO_ROW
from rf_serving.search import Condition, Eligibility, ItemFilter, searcher
from rf_serving.search import depths as depths_module
from rf_serving.search.condition import Operator
from rf_serving.search.costs import SearchCosts
from rf_serving.search.depths import depth_of, depths
from rf_serving.search.eligibility import NO_ROWS
from rf_serving.search.searcher import Search, Searcher

N, D = 400, 8
FREE_INDEX = SearchCosts(gathered=1.0, scanned=1.0, index=((100, 1e-9),))
"""By which the index is always asked first."""
WHOLE_SCAN = SearchCosts(gathered=1.0, scanned=1e-9, index=((100, 1.0),))
DEAR_INDEX = SearchCosts(gathered=1e-9, scanned=1e-9, index=((100, 1.0),))


class Forgetful(HnswIndex):
    """A real graph of which a share of the results is lost, as if its search had been cut short."""

    lost = 0.9

    def search(self, queries_BD: Any, k: int) -> Found:
        found = super().search(queries_BD, k)
        rows = np.where(np.random.default_rng(k).random(found.rows.shape) < self.lost, NO_ROW, found.rows)
        order = np.argsort(rows == NO_ROW, axis=1, kind="stable")
        return Found(np.take_along_axis(rows, order, axis=1), np.take_along_axis(found.scores, order, axis=1))


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    rng = np.random.default_rng(5)
    found = rng.standard_normal((N, D))
    return np.asarray(found / np.linalg.norm(found, axis=1, keepdims=True), np.float32)


@pytest.fixture(scope="module")
def columns() -> dict[str, Any]:
    rng = np.random.default_rng(6)
    return {"item__year": rng.integers(0, 100, N).tolist()}


@pytest.fixture(scope="module", params=["exact", "hnsw", "forgetful"])
def base(request: Any, make_base: Callable[..., Any], vectors: np.ndarray, columns: dict[str, Any]) -> Any:
    index = {"exact": None, "hnsw": HnswIndex, "forgetful": Forgetful}[request.param]
    return make_base(vectors, columns, index and index.build(vectors))


def below(bound: int) -> frozenset[Condition]:
    return frozenset({Condition(feature="item__year", operator=Operator.LESS, values=(bound,))})


ids = st.lists(st.integers(0, N + 20), max_size=30).map(tuple)
many = st.integers(1, N).flatmap(lambda step: st.just(tuple(range(0, N + 20, step)) + tuple(range(N // 2))))
filters = st.builds(
    ItemFilter,
    allow=st.none() | st.lists(st.integers(0, N + 20), min_size=1, max_size=60).map(tuple),
    deny=ids,
    where=st.integers(0, 101).map(below) | st.just(frozenset()),
)


@pytest.fixture
def soon_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have an index asked for few more than wanted, as where a user has seen thousands."""
    for module in (searcher, depths_module):
        monkeypatch.setattr(module, "ENOUGH", 16)


@pytest.mark.usefixtures("soon_enough")
@pytest.mark.parametrize("costs", [FREE_INDEX, DEAR_INDEX, WHOLE_SCAN], ids=["index first", "gather", "whole scan"])
@settings(max_examples=40, deadline=None)
@given(
    asked=st.lists(st.tuples(filters, st.integers(1, 60), ids | many, st.integers(0, N - 1)), min_size=1, max_size=4),
    dead=st.lists(st.integers(0, N - 1), max_size=N // 2),
    fresh=st.integers(0, 3),
)
def test_never_fewer_than_there_are_and_nothing_that_may_not_be(
    base: Any, vectors: np.ndarray, columns: dict[str, Any], make_snapshot: Callable[..., Any],
    make_spec: Callable[..., Any], costs: SearchCosts, asked: list[Any], dead: list[int], fresh: int,
) -> None:  # fmt: skip
    added = {N + n: (vectors[7 * n], {"item__year": 10 * n}) for n in range(fresh)}
    catalog = make_snapshot(base, dead, added)
    eligibility = Eligibility(make_spec("item__year"))
    years = [*columns["item__year"], *(10 * n for n in range(fresh))]
    every = np.concatenate([vectors, *(vectors[7 * n][None] for n in range(fresh))])
    searches, expected = [], []
    for filter_, k, seen, like in asked:
        seen_rows = np.array([item for item in seen if item < len(years)], np.int64)
        searches.append(
            Search(
                query_D=vectors[like],
                k=k,
                eligible=eligibility.of(catalog, filter_),
                seen=seen_rows,
                filtered=filter_ != ItemFilter(),
            )
        )
        bounds = [each.values[0] for each in filter_.where]
        expected.append(
            [
                row
                for row in range(len(years))
                if catalog.live_mask_N[row]
                and (filter_.allow is None or row in filter_.allow)
                and row not in filter_.deny
                and row not in seen
                and all(years[row] < bound for bound in bounds)
            ]
        )
    results = Searcher(costs).find(catalog, searches)
    for search, allowed, result in zip(searches, expected, results, strict=True):
        rows = result.found.rows.tolist()
        assert set(rows) <= set(allowed)
        assert len(set(rows)) == len(rows) == min(search.k, len(allowed))
        assert search.eligible.count == len(
            set(allowed) | (set(search.seen.tolist()) & set(search.eligible.passing.rows) - set(search.eligible.denied))
        )
        scores = every[rows] @ search.query_D
        np.testing.assert_allclose(result.found.scores[: len(rows)], scores, atol=1e-5)
        assert (np.diff(result.found.scores) <= 1e-6).all()
        if result.strategy == SearchPlan.EXACT:
            best = np.sort(every[allowed] @ search.query_D)[::-1][: len(rows)]
            np.testing.assert_allclose(np.sort(scores)[::-1], best, atol=1e-5)


def test_the_cheaper_way_is_taken(
    make_base: Callable[..., Any], make_snapshot: Callable[..., Any], make_spec: Callable[..., Any],
    vectors: np.ndarray, columns: dict[str, Any],
) -> None:  # fmt: skip
    catalog = make_snapshot(make_base(vectors, columns, HnswIndex.build(vectors)))
    eligibility = Eligibility(make_spec("item__year"))

    def strategy(costs: SearchCosts, bound: int | None) -> int:
        filter_ = ItemFilter() if bound is None else ItemFilter(where=below(bound))
        eligible = eligibility.of(catalog, filter_)
        search = Search(query_D=vectors[0], k=2, eligible=eligible, seen=NO_ROWS, filtered=bound is not None)
        return int(Searcher(costs).find(catalog, [search])[0].strategy)

    costs = SearchCosts(gathered=1.0, scanned=0.5, index=((128, 30.0), (1000, 150.0)))
    assert strategy(costs, None) == SearchPlan.APPROXIMATE
    # 90% pass: 128 are asked for, 30 s against 200 s; 10%: 40 rows are gathered in 40 s, the index takes 30 s; 1%: 4 s.
    assert strategy(costs, 90) == SearchPlan.APPROXIMATE
    assert strategy(costs, 10) == SearchPlan.APPROXIMATE
    assert strategy(costs, 1) == SearchPlan.EXACT
    assert strategy(DEAR_INDEX, 90) == SearchPlan.EXACT


def test_what_is_asked_of_the_index_is_one_of_few_numbers() -> None:
    assert [depth_of(n) for n in (1, 64, 100, 101, 1000, 1024)] == [100, 100, 100, 128, 1024, 1024]
    assert [depth_of(n) for n in (1025, 1152, 1153, 2048, 2049)] == [1152, 1152, 1280, 2048, 2304]
    for n in range(1, 5000):
        assert n <= depth_of(n) <= max(100, 2 * n)
        assert depth_of(depth_of(n)) == depth_of(n)


def test_little_is_asked_first_and_more_where_it_does_not_do() -> None:
    assert depths(20, 0) == depths(20, 80) == (100,)
    assert depths(20, 81) == (100, 128)
    assert depths(20, 5000) == (100, 1024)
    assert depths(100, 0) == (100,)
    assert depths(100, 50) == (256,)
    assert depths(100, 5000) == (256, 1024)
    assert depths(1000, 5000) == (2048,)


@pytest.mark.parametrize(("best_seen", "asked"), [(80, [100]), (81, [100, 256]), (150, [100, 256])])
def test_an_index_is_asked_again_only_where_too_few_are_left(
    vectors: np.ndarray, columns: dict[str, Any], make_base: Callable[..., Any], make_snapshot: Callable[..., Any],
    make_spec: Callable[..., Any], best_seen: int, asked: list[int],
) -> None:  # fmt: skip
    """A user has seen 150 items, so many of them the best ones."""
    order = np.argsort(-(vectors @ vectors[0]), kind="stable")
    seen = np.concatenate([order[:best_seen], order[len(order) - (150 - best_seen) :]])
    index = _Counted.build(vectors)
    catalog = make_snapshot(make_base(vectors, columns, index), [], {})
    search = Search(
        query_D=vectors[0],
        k=20,
        eligible=Eligibility(make_spec("item__year")).of(catalog, ItemFilter()),
        seen=seen,
        filtered=False,
    )
    (found,) = Searcher(FREE_INDEX).find(catalog, [search])
    assert index.asked == asked
    scores = vectors[order[best_seen : best_seen + 20]] @ vectors[0]
    np.testing.assert_allclose(found.found.scores, scores, atol=1e-5)


class _Counted(ExactIndex):
    """Notes what it is asked for."""

    def __init__(self, vectors_ND: Any) -> None:
        super().__init__(vectors_ND)
        self.asked: list[int] = []

    def search(self, queries_BD: Any, k: int) -> Found:
        self.asked.append(k)
        return super().search(queries_BD, k)


def test_costs_are_measured_on_the_catalog(
    make_base: Callable[..., Any], make_snapshot: Callable[..., Any], vectors: np.ndarray, columns: dict[str, Any]
) -> None:
    exact = SearchCosts.measure(make_snapshot(make_base(vectors, columns)))
    assert exact.index == ()
    assert 0 < exact.gathered < 1e-4
    assert 0 < exact.whole_share <= 1
    graph = SearchCosts.measure(make_snapshot(make_base(vectors, columns, HnswIndex.build(vectors)), dead=[3]))
    assert [depth for depth, _ in graph.index] == [100, N]
    assert graph.approximate(50) == graph.approximate(100) <= graph.approximate(2 * N)
    assert graph.exact(10, N) <= graph.exact(N, N)


@pytest.mark.parametrize("kind", [ExactIndex, IvfPqIndex])
def test_an_index_on_a_device_is_asked_first_where_waiting_for_it_is_cheaper(
    make_base: Callable[..., Any], make_snapshot: Callable[..., Any], make_spec: Callable[..., Any],
    vectors: np.ndarray, columns: dict[str, Any], fake_gpu: Any, kind: type[VectorIndex],
) -> None:  # fmt: skip
    """The fake device lets every search wait for 5 ms, of which the CPU does not know."""
    index = kind.build(vectors)
    index.to_device(0)
    catalog = make_snapshot(make_base(vectors, columns, index))
    costs = SearchCosts.measure(catalog)
    assert all(seconds >= 0.005 for _, seconds in costs.index)
    assert [depth for depth, _ in costs.index] == [100, N]
    assert costs.approximate(2049) == inf > costs.approximate(2048)  # there the CPU searches
    eligible = Eligibility(make_spec("item__year")).of(catalog, ItemFilter(where=below(50)))
    search = Search(query_D=vectors[0], k=2, eligible=eligible, seen=NO_ROWS, filtered=True)
    results = []
    for gathered, searches in ((1.0, 1), (1e-9, 0)):
        fake_gpu.asked.clear()
        results += Searcher(replace(costs, gathered=gathered, scanned=gathered)).find(catalog, [search])
        assert len(fake_gpu.asked) == searches
    assert np.array_equal(results[0].found.rows, results[1].found.rows)
    assert (results[0].strategy == SearchPlan.EXACT) is kind.exact
