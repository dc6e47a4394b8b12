from collections.abc import Callable

import numpy as np
import pytest

from rf_serving.index import (
    ApproximateIndex,
    Effort,
    Efforts,
    HnswIndex,
    IvfPqIndex,
    exact_search,
    recall_against_exact,
    tune,
)

Draw = Callable[..., np.ndarray]


def recall_by_hand(index: ApproximateIndex, vectors: np.ndarray, queries: np.ndarray, k: int) -> float:
    truth = np.argsort(-(queries @ vectors.T), axis=1)[:, :k]
    found = index.search(queries, k).rows
    return float(np.mean([len(set(t) & set(f)) / k for t, f in zip(truth.tolist(), found.tolist(), strict=True)]))


@pytest.mark.parametrize("recall", [0.8, 0.95, 1.0])
def test_tuned_efforts_reach_what_was_asked(
    approximate: type[ApproximateIndex], clustered: Draw, recall: float
) -> None:
    vectors, queries, others = clustered(8000, 24), clustered(200, 24, seed=1), clustered(200, 24, seed=2)
    index = approximate.build(vectors)
    tune(index, vectors, queries, recall, numbers=(20, 200))
    assert [effort.k for effort in index.efforts.all] == [20, 200]
    for k in (20, 200):
        assert recall_by_hand(index, vectors, queries, k) >= recall
        assert recall_by_hand(index, vectors, others, k) >= recall - 0.02


def test_less_recall_is_cheaper(approximate: type[ApproximateIndex], clustered: Draw) -> None:
    vectors, queries = clustered(8000, 24), clustered(200, 24, seed=1)
    index = approximate.build(vectors)
    costs = []
    for recall in (0.5, 0.99):
        tune(index, vectors, queries, recall, numbers=(20,))
        costs.append(index.cost(index.efforts.all[0]))
    assert costs[0] < costs[1]


def test_no_cheaper_effort_would_do(clustered: Draw) -> None:
    """Every cheaper effort of the grid, tried one after the other."""
    vectors, queries = clustered(5000, 16), clustered(100, 16, seed=1)
    index = IvfPqIndex.build(vectors, lists=64)
    tune(index, vectors, queries, 0.9, numbers=(20,))
    chosen = index.efforts.all[0]
    truth = exact_search(vectors, queries, 20).scores[:, -1:]
    for probes in index.probes(20):
        for length in index.refine_ks(20):
            effort = Effort(k=20, probes=probes, refine_k=length)
            if index.cost(effort) >= index.cost(chosen):
                continue
            recall_B = (index.search_with(queries, 20, effort).scores >= truth - 1e-6).mean(axis=1)
            assert recall_B.mean() - 2 * recall_B.std() / 10 < 0.9


def test_tuning_is_repeatable(approximate: type[ApproximateIndex], clustered: Draw) -> None:
    vectors, queries = clustered(4000), clustered(60, seed=1)
    settings = []
    for _ in range(2):
        index = approximate.build(vectors)
        tune(index, vectors, queries, 0.95)
        settings.append(index.settings)
    assert settings[0] == settings[1]


def test_what_is_out_of_reach_gets_the_best_there_is(clustered: Draw) -> None:
    class Blind(HnswIndex):
        """Never finds the best row."""

        def search_with(self, queries_BD, k, effort):  # type: ignore[no-untyped-def]
            found = super().search_with(queries_BD, k + 1, effort)
            return type(found)(found.rows[:, 1:], found.scores[:, 1:])

    vectors, queries = clustered(2000), clustered(50, seed=1)
    index = Blind.build(vectors)
    tune(index, vectors, queries, 0.99, numbers=(20,))
    assert recall_against_exact(index, vectors, queries, [20])[20] == pytest.approx(0.95, abs=0.003)
    assert index.efforts.all[0].probes < max(index.probes(20))  # not the dearest of those that are alike


def test_a_small_catalog_is_tuned_for_all_of_it(approximate: type[ApproximateIndex], clustered: Draw) -> None:
    vectors = clustered(70)
    index = approximate.build(vectors)
    tune(index, vectors, vectors[:5], 0.95)
    assert [effort.k for effort in index.efforts.all] == [70]
    assert recall_against_exact(index, vectors, vectors[:5], [20, 1000]) == {20: 1.0, 1000: 1.0}


def test_efforts_grow_with_what_is_asked() -> None:
    efforts = Efforts([Effort(k=1000, probes=30, refine_k=1500), Effort(k=100, probes=8, refine_k=300)])
    assert efforts.of(1) == efforts.of(100) == Effort(k=100, probes=8, refine_k=300)
    assert efforts.of(101) == Effort(k=1000, probes=30, refine_k=1500)
    assert efforts.of(2500) == Effort(k=2500, probes=75, refine_k=3750)
    written = Efforts.read({"efforts": efforts.plain(), "links": 32})
    assert written is not None
    assert written.all == efforts.all
    assert Efforts.read({"links": 32}) is None


def test_efforts_of_earlier_versions_are_read() -> None:
    read = Efforts.read({"efforts": [{"k": 100, "width": 8, "short_list": 300}]})
    assert read is not None
    assert read.all == (Effort(k=100, probes=8, refine_k=300),)
