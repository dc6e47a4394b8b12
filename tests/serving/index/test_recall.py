from collections.abc import Callable
from typing import Any

import numpy as np

from rf_serving.index import ExactIndex, Found, exact_search, recall_against_exact

Draw = Callable[..., np.ndarray]


class Half(ExactIndex):
    """Knows every second row only."""

    def search(self, queries_BD: Any, k: int) -> Found:
        hidden = self._vectors_ND.copy()
        hidden[1::2] = 0
        return exact_search(hidden, queries_BD, k)


def test_recall_is_the_share_of_the_true_best_rows() -> None:
    vectors = np.eye(4, dtype=np.float32)
    query = np.array([[0.8, 0.5, 0.3, 0.1]], np.float32)
    assert recall_against_exact(ExactIndex.build(vectors), vectors, query, [1, 2]) == {1: 1.0, 2: 1.0}
    assert recall_against_exact(Half.build(vectors), vectors, query, [1, 2]) == {1: 1.0, 2: 0.5}


def test_equal_scores_count_as_found() -> None:
    vectors = np.repeat(np.eye(2, dtype=np.float32), 10, axis=0)  # two groups of ten equal items
    backwards = ExactIndex.build(vectors)
    assert recall_against_exact(backwards, vectors, np.array([[1.0, 0.0]], np.float32), [3]) == {3: 1.0}


def test_of_a_small_catalog_all_is_to_be_found(unit: Draw) -> None:
    vectors = unit(7)
    assert recall_against_exact(ExactIndex.build(vectors), vectors, unit(3, seed=1), [20, 100]) == {20: 1.0, 100: 1.0}


def test_the_scan_takes_what_lies_in_a_part_of_a_matrix(unit: Draw) -> None:
    vectors, queries = unit(500, 24), unit(30, 24, seed=1)
    for part in (vectors, vectors[100:200]):
        for some in (queries[:1], queries[:5], queries):
            found = exact_search(part, some, 7)
            assert np.array_equal(found.rows, np.argsort(-(some @ part.T), axis=1)[:, :7])
    assert exact_search(vectors[:0], queries, 5).rows.shape == (30, 0)
