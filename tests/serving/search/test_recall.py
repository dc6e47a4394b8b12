"""Recall behind a filter, on 100,000 items that lie in clusters, with an HNSW graph."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from rf_protos.v1.retrieval_pb2 import SearchPlan
from rf_serving.index import hnsw
from rf_serving.index.tune import tune
from rf_serving.search import Condition, Eligibility, ItemFilter
from rf_serving.search.condition import Operator
from rf_serving.search.costs import SearchCosts
from rf_serving.search.eligibility import NO_ROWS
from rf_serving.search.searcher import Search, Searcher

N, D, CLUSTERS, QUERIES = 100_000, 24, 300, 60
SHARES = (0.5, 0.1, 0.01, 0.001)


def unit(rows: np.ndarray) -> np.ndarray:
    return np.asarray(rows / np.linalg.norm(rows, axis=-1, keepdims=True), np.float32)


class World:
    """Clusters of very different sizes, and users who like three of them each."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self.centres = unit(rng.standard_normal((CLUSTERS, D)))
        weight = np.arange(1, CLUSTERS + 1) ** -0.8
        self.share = weight / weight.sum()
        self.cluster = rng.choice(CLUSTERS, N, p=self.share)
        self.vectors = unit(self.centres[self.cluster] + rng.standard_normal((N, D)) * 0.9 / D**0.5)

    def queries(self, count: int, seed: int) -> np.ndarray:
        rng = np.random.default_rng(seed)
        liked = rng.choice(CLUSTERS, (count, 3), p=self.share)
        return unit(self.centres[liked].sum(1) + rng.standard_normal((count, D)) * 0.6 / D**0.5)


@pytest.fixture(scope="module")
def world() -> World:
    return World()


@pytest.fixture(scope="module")
def catalog(world: World, make_base: Callable[..., Any], make_snapshot: Callable[..., Any]) -> Any:
    """The graph is built with a quarter of the usual effort: a worse one than is served, and made in a few seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hnsw, "BUILD_WIDTH", 40)
        index = hnsw.HnswIndex.build(world.vectors)
    tune(index, world.vectors, world.queries(200, 1), recall=0.95)
    rng = np.random.default_rng(2)
    # Of whole clusters, and of one direction: what passes lies together, near some users and far from others.
    by_cluster = rng.permutation(CLUSTERS)[world.cluster].astype(np.float64) / CLUSTERS
    along = (world.vectors @ world.centres[0]).argsort().argsort() / N
    features = {"item__price": rng.random(N), "item__weight": by_cluster + rng.random(N) * 1e-3}
    return make_snapshot(make_base(world.vectors, features | {"item__year": (along * 10**6).astype(np.int64)}, index))


def eligible_at(catalog: Any, make_spec: Callable[..., Any], kind: str, share: float) -> Any:
    feature, values = {
        "random": ("item__price", catalog.base.column("item__price")),
        "clusters": ("item__weight", catalog.base.column("item__weight")),
        "direction": ("item__year", catalog.base.column("item__year")),
    }[kind]
    bound = np.quantile(values.to_numpy(), share).item()
    condition = Condition(feature=feature, operator=Operator.LESS, values=(bound,))
    found = Eligibility(make_spec("item__price", "item__weight", "item__year")).of(
        catalog, ItemFilter(where=frozenset({condition}))
    )
    assert found.count == pytest.approx(share * N, rel=0.05)
    return found


@pytest.mark.parametrize("kind", ["random", "clusters", "direction"])
@pytest.mark.parametrize("k", [10, 100])
@pytest.mark.parametrize(
    ("first", "share"),
    # Of fewer, a graph would be asked for most of its items.
    [*(("cheapest", share) for share in SHARES), *(("index", share) for share in SHARES if share >= 0.1)],
)
def test_recall_is_99_percent(
    world: World, catalog: Any, make_spec: Callable[..., Any], kind: str, share: float, k: int, first: str
) -> None:
    eligible = eligible_at(catalog, make_spec, kind, share)
    costs = SearchCosts.measure(catalog)
    if first == "index":
        costs = SearchCosts(gathered=1.0, scanned=1.0, index=((1000, 1e-9),))
    queries = world.queries(QUERIES, 3)
    searches = [Search(query_D=q, k=k, eligible=eligible, seen=NO_ROWS, filtered=True) for q in queries]
    results = Searcher(costs).find(catalog, searches)
    rows = np.flatnonzero(eligible.passing.mask)
    truth = rows[np.argsort(-(queries @ world.vectors[rows].T), axis=1)[:, :k]]
    recall = [
        len(set(true) & set(found.found.rows.tolist())) / k for true, found in zip(truth.tolist(), results, strict=True)
    ]
    assert all(len(found.found.rows) == k for found in results)
    assert np.mean(recall) >= 0.99
    approximate = sum(found.strategy == SearchPlan.APPROXIMATE for found in results)
    if first == "index" and kind == "random" and share >= 0.1:
        assert approximate > QUERIES // 2
    if first == "cheapest" and share <= 0.01:
        assert approximate == 0
