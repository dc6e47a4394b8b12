from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest

from rf_platform.errors import ConfigError, CorruptError, UsageError
from rf_serving.index import (
    EXACT_LIMIT,
    ExactIndex,
    HnswIndex,
    VectorIndex,
    choose_kind,
    open_index,
    recall_against_exact,
)

BOTH = [ExactIndex, HnswIndex]


def unit(rows: int, seed: int = 0) -> np.ndarray:
    x = np.random.default_rng(seed).standard_normal((rows, 16)).astype(np.float32)
    normalised: np.ndarray = x / np.linalg.norm(x, axis=1, keepdims=True)
    return normalised


@pytest.mark.parametrize("kind", BOTH)
def test_the_best_rows_come_first_with_their_dot_products(kind: type[VectorIndex]) -> None:
    vectors, queries = unit(500), unit(7, seed=1)
    truth = queries @ vectors.T
    found = kind.build(vectors).search(queries, 10)
    assert np.array_equal(found.rows, np.argsort(-truth, axis=1)[:, :10])
    np.testing.assert_allclose(found.scores, np.take_along_axis(truth, found.rows, axis=1), atol=1e-6)


@pytest.mark.parametrize("kind", BOTH)
def test_more_than_there_is_gives_all(kind: type[VectorIndex]) -> None:
    found = kind.build(unit(5)).search(unit(2, seed=1), 50)
    assert found.rows.shape == (2, 5)
    assert set(found.rows[0].tolist()) == set(range(5))


@pytest.mark.parametrize("kind", BOTH)
def test_a_saved_index_is_the_same_and_equal_vectors_give_equal_files(kind: type[VectorIndex], tmp_path: Path) -> None:
    vectors, queries = unit(2000), unit(5, seed=1)
    threads = faiss.omp_get_max_threads()
    for name, count in (("a", 1), ("b", 4)):
        faiss.omp_set_num_threads(count)
        kind.build(vectors).save(tmp_path / name)
    faiss.omp_set_num_threads(threads)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    opened = open_index(kind.kind, tmp_path / "a")
    assert isinstance(opened, kind)
    assert opened.items == 2000
    assert np.array_equal(opened.search(queries, 20).rows, kind.build(vectors).search(queries, 20).rows)


def test_auto_scans_small_catalogs() -> None:
    assert choose_kind("auto", EXACT_LIMIT) is ExactIndex
    assert choose_kind("auto", EXACT_LIMIT + 1) is HnswIndex
    assert choose_kind("hnsw", 10) is HnswIndex
    with pytest.raises(UsageError, match="--kind='ivf'"):
        choose_kind("ivf", 10)


def test_files_that_are_no_index_are_refused(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"nothing of the kind")
    with pytest.raises(CorruptError, match="no FAISS index"):
        open_index("exact", tmp_path / "x")
    with pytest.raises(ConfigError, match="kind 'ivf'"):
        open_index("ivf", tmp_path / "x")


class Half(ExactIndex):
    """Knows every second row only."""

    @classmethod
    def build(cls, vectors_ND: Any) -> "Half":
        hidden = vectors_ND.copy()
        hidden[1::2] = 0
        return super().build(hidden)


def test_recall_is_the_share_of_the_true_best_rows() -> None:
    vectors = np.eye(4, dtype=np.float32)
    query = np.array([[0.8, 0.5, 0.3, 0.1]], np.float32)
    assert recall_against_exact(ExactIndex.build(vectors), vectors, query, 2) == 1.0
    assert recall_against_exact(Half.build(vectors), vectors, query, 2) == 0.5


def test_equal_scores_count_as_found() -> None:
    vectors = np.repeat(np.eye(2, dtype=np.float32), 10, axis=0)  # two groups of ten equal items
    backwards = ExactIndex.build(vectors)
    assert recall_against_exact(backwards, vectors, np.array([[1.0, 0.0]], np.float32), 3) == 1.0
