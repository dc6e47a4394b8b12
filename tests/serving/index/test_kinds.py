"""What every kind of index does alike, on rows whose right answers are known."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from rf_platform.errors import CorruptError
from rf_serving.index import ApproximateIndex, Effort, HnswIndex, IvfPqIndex, VectorIndex, ivf_pq, open_index, tune

Draw = Callable[..., np.ndarray]


def built(kind: type[VectorIndex], vectors: np.ndarray, queries: np.ndarray) -> VectorIndex:
    index = kind.build(vectors)
    if isinstance(index, ApproximateIndex):
        tune(index, vectors, queries, recall=1.0)
    return index


@pytest.mark.parametrize("width", [16, 17, 64, 65])
def test_the_best_rows_come_first_with_their_dot_products(kind: type[VectorIndex], clustered: Draw, width: int) -> None:
    vectors, queries = clustered(2000, width), clustered(9, width, seed=1)
    truth = queries @ vectors.T
    found = built(kind, vectors, queries).search(queries, 10)
    assert found.rows.dtype == np.int64
    assert found.scores.dtype == np.float32
    assert np.array_equal(found.rows, np.argsort(-truth, axis=1)[:, :10])
    np.testing.assert_allclose(found.scores, np.take_along_axis(truth, found.rows, axis=1), atol=1e-6)


def test_longer_rows_score_higher(kind: type[VectorIndex], clustered: Draw) -> None:
    """A bias is one more dimension: the order is that of dot products, not of angles."""
    plain = clustered(500, 16)
    bias = np.random.default_rng(3).normal(size=500).astype(np.float32)
    vectors = np.concatenate([plain, bias[:, None]], axis=1)
    queries = np.pad(clustered(5, 16, seed=1), ((0, 0), (0, 1)), constant_values=1.0)
    found = built(kind, vectors, queries).search(queries, 10)
    assert np.array_equal(found.rows, np.argsort(-(queries @ vectors.T), axis=1)[:, :10])


@pytest.mark.parametrize("items", [1, 2, 5, 40])
def test_more_than_there_is_gives_all(kind: type[VectorIndex], unit: Draw, items: int) -> None:
    found = kind.build(unit(items)).search(unit(2, seed=1), 50)
    assert found.rows.shape == found.scores.shape == (2, items)
    for row in found.rows:
        assert sorted(row.tolist()) == list(range(items))
    assert (np.diff(found.scores, axis=1) <= 0).all()


def test_equal_rows_are_all_found(kind: type[VectorIndex], unit: Draw) -> None:
    vectors = np.repeat(unit(1), 100, axis=0)
    found = kind.build(vectors).search(vectors[:1], 60)
    assert len(set(found.rows[0].tolist())) == 60
    np.testing.assert_allclose(found.scores, 1.0, atol=1e-6)


def test_duplicates_of_the_best_row_come_first(kind: type[VectorIndex], clustered: Draw) -> None:
    vectors = clustered(1000)
    copies = [3, 500, 999]
    vectors[copies] = vectors[3]
    found = built(kind, vectors, vectors[3:4]).search(vectors[3:4], 4)
    assert set(found.rows[0, :3].tolist()) == set(copies)


def test_no_results_and_no_queries(kind: type[VectorIndex], unit: Draw) -> None:
    index = kind.build(unit(20))
    assert index.search(unit(3), 0).rows.shape == (3, 0)
    assert index.search(unit(3)[:0], 5).rows.shape == (0, 5)


def test_an_empty_catalog_gives_nothing(kind: type[VectorIndex], unit: Draw, tmp_path: Path) -> None:
    index = kind.build(unit(0))
    index.save(tmp_path / "index.faiss")
    opened = open_index(kind.kind, tmp_path / "index.faiss", unit(0), index.settings)
    assert index.search(unit(2), 5).rows.shape == opened.search(unit(2), 5).rows.shape == (2, 0)


def test_a_batch_gives_what_single_queries_give(kind: type[VectorIndex], clustered: Draw) -> None:
    vectors, queries = clustered(3000), clustered(25, seed=1)
    index = kind.build(vectors)
    together = index.search(queries, 15)
    for number, query in enumerate(queries):
        alone = index.search(query[None], 15)
        assert alone.rows[0].tolist() == together.rows[number].tolist()
        np.testing.assert_allclose(alone.scores[0], together.scores[number], atol=1e-6)


def test_threads_search_at_the_same_time(kind: type[VectorIndex], clustered: Draw) -> None:
    vectors, queries = clustered(3000), clustered(200, seed=1)
    index = kind.build(vectors)
    expected = [index.search(query[None], 1 + number % 30).rows.tolist() for number, query in enumerate(queries)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda n: index.search(queries[n : n + 1], 1 + n % 30).rows.tolist(), range(200)))
    assert found == expected


def test_the_input_is_left_alone(kind: type[VectorIndex], clustered: Draw) -> None:
    vectors, queries = clustered(300), clustered(5, seed=1)
    before = vectors.copy(), queries.copy()
    kind.build(vectors).search(queries, 5)
    assert np.array_equal(vectors, before[0])
    assert np.array_equal(queries, before[1])


def test_rows_of_another_type_or_order_are_taken(kind: type[VectorIndex], clustered: Draw) -> None:
    vectors, queries = clustered(300), clustered(5, seed=1)
    plain = kind.build(vectors).search(queries, 5)
    other = kind.build(np.asfortranarray(vectors.astype(np.float64))).search(np.asfortranarray(queries), 5)
    assert np.array_equal(plain.rows, other.rows)


def test_a_saved_index_opens_over_mapped_rows(kind: type[VectorIndex], clustered: Draw, tmp_path: Path) -> None:
    vectors, queries = clustered(3000, 17), clustered(20, 17, seed=1)
    np.save(tmp_path / "vectors.npy", vectors)
    index = built(kind, vectors, queries)
    index.save(tmp_path / "index.faiss")
    mapped = np.load(tmp_path / "vectors.npy", mmap_mode="r")
    opened = open_index(kind.kind, tmp_path / "index.faiss", mapped, index.settings)
    assert isinstance(opened, kind)
    assert (opened.items, opened.dim, opened.settings) == (3000, 17, index.settings)
    for k in (1, 20, 300):
        before, after = index.search(queries, k), opened.search(queries, k)
        assert np.array_equal(before.rows, after.rows)
        assert np.array_equal(before.scores, after.scores)


def test_many_lists_are_found_by_codes_of_their_centroids(
    clustered: Draw, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors, queries = clustered(6000, 17), clustered(50, 17, seed=1)
    flat = IvfPqIndex.build(vectors, lists=150)
    monkeypatch.setattr(ivf_pq, "FLAT_LISTS", 16)
    coded = IvfPqIndex.build(vectors, lists=150)
    coded.save(tmp_path / "index.faiss")
    opened = open_index("ivf-pq", tmp_path / "index.faiss", vectors, coded.settings)
    for probes in (10, 150):
        effort = Effort(k=20, probes=probes, refine_k=200)
        truth = np.argsort(-(queries @ vectors.T), axis=1)[:, :20]
        by_flat, by_codes, by_opened = (
            np.mean(
                [np.isin(t, f).mean() for t, f in zip(truth, index.search_with(queries, 20, effort).rows, strict=True)]
            )
            for index in (flat, coded, opened)
            if isinstance(index, IvfPqIndex)
        )
        assert by_codes == by_opened > by_flat - 0.02
        assert by_codes > 0.8
    np.testing.assert_allclose(ivf_pq._centroids(coded._base), ivf_pq._centroids(flat._base), atol=1e-6)  # for a device


def test_a_moved_index_still_opens(kind: type[VectorIndex], clustered: Draw, tmp_path: Path) -> None:
    """A bundle is written beside its final name and renamed."""
    vectors = clustered(500)
    (tmp_path / "staging").mkdir()
    index = kind.build(vectors)
    index.save(tmp_path / "staging" / "index.faiss")
    (tmp_path / "staging").rename(tmp_path / "final")
    moved = open_index(kind.kind, tmp_path / "final" / "index.faiss", vectors, index.settings)
    assert moved.search(vectors[:5], 1).rows.tolist() == [[row] for row in range(5)]


def test_equal_rows_give_equal_files(
    kind: type[VectorIndex], clustered: Draw, tmp_path: Path, threads: Callable[[int], None]
) -> None:
    vectors = clustered(4000)
    for name, count in (("a", 1), ("b", 4)):
        threads(count)
        (tmp_path / name).mkdir()
        kind.build(vectors).save(tmp_path / name / "index.faiss")
    a, b = ({f.name: f.read_bytes() for f in (tmp_path / name).iterdir()} for name in "ab")
    assert a == b


def test_files_that_are_no_index_are_refused(approximate: type[VectorIndex], clustered: Draw, tmp_path: Path) -> None:
    vectors = clustered(500)
    path = tmp_path / "index.faiss"
    with pytest.raises(CorruptError, match=r"index\.faiss"):
        open_index(approximate.kind, path, vectors)
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(CorruptError, match="no FAISS index"):
        open_index(approximate.kind, path, vectors)
    other = HnswIndex if approximate is IvfPqIndex else IvfPqIndex
    other.build(vectors).save(path)
    with pytest.raises(CorruptError, match=f"{path} is no"):
        open_index(approximate.kind, path, vectors)


@pytest.mark.parametrize("cut", ["rows", "width"])
def test_an_index_of_other_rows_is_refused(
    approximate: type[VectorIndex], clustered: Draw, tmp_path: Path, cut: str
) -> None:
    vectors = clustered(500)
    approximate.build(vectors).save(tmp_path / "index.faiss")
    others = vectors[:-1] if cut == "rows" else vectors[:, :-3]
    with pytest.raises(CorruptError, match=rf"{len(others)} rows of {others.shape[1]}"):
        open_index(approximate.kind, tmp_path / "index.faiss", others)
