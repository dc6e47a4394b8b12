from collections.abc import Callable

import numpy as np
import pytest

from rf_serving.index import two_level
from rf_serving.index.two_level import centroids, exact_nearest, settled

Draw = Callable[..., np.ndarray]


def closeness(rows: np.ndarray, means: np.ndarray) -> float:
    return float((rows * means[exact_nearest(rows, means)]).sum(axis=1).mean())


def test_two_levels_are_as_good_as_one(clustered: Draw, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = clustered(6000, 16)
    one = centroids(rows, 200)
    monkeypatch.setattr(two_level, "FLAT_LIMIT", 10)
    two = centroids(rows, 200)
    assert two.shape == one.shape == (200, 16)
    np.testing.assert_allclose(np.linalg.norm(two, axis=1), 1, atol=1e-5)
    random = rows[np.random.default_rng(0).choice(6000, 200, replace=False)]
    assert closeness(rows, random) < closeness(rows, two) - 0.02
    assert closeness(rows, two) > closeness(rows, one) - 0.01
    assert np.bincount(exact_nearest(rows, two), minlength=200).max() < 6000 / 200 * 6


@pytest.mark.parametrize("count", [1, 3, 50, 80])
def test_there_are_no_more_centroids_than_rows(unit: Draw, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(two_level, "FLAT_LIMIT", 2)
    assert centroids(unit(50), count).shape == (min(count, 50), 16)


def test_shares_follow_sizes() -> None:
    assert two_level._shares([100, 300, 0], 40) == [10, 30, 0]
    assert two_level._shares([1, 1, 1], 2) in ([1, 1, 0], [1, 0, 1], [0, 1, 1])
    assert sum(two_level._shares([7, 13, 29, 1], 17)) == 17


def test_centroids_settle_on_the_direction_of_their_rows() -> None:
    """Rows at 0 and 90 degrees around a list at 45, its mean cos 45 long; a row by itself; and an empty list."""
    rows = np.array([[1, 0, 0], [0, 1, 0], [0, 0, -1]], np.float32)
    start = np.array([[0.8, 0.6, 0], [0, 0.6, -0.8], [0, -1, 0]], np.float32)
    found = settled(start, rows, lambda some: exact_nearest(some, start))
    assert exact_nearest(rows, start).tolist() == [0, 0, 1]
    length = 0.5**0.5
    np.testing.assert_allclose(found[0], np.array([1, 1, 0]) * length / length**two_level.LEAN, atol=1e-6)
    np.testing.assert_allclose(found[1], [0, 0, -1], atol=1e-6)
    np.testing.assert_allclose(found[2], start[2])


def test_settled_centroids_find_more_of_what_queries_are_after(clustered: Draw) -> None:
    """Centroids of two rows each: the lists of the best ones hold more of the true best rows once they have settled."""
    rows, queries = clustered(8000, 24), clustered(200, 24, seed=1)
    start = centroids(rows[:256], 128)
    best = np.argsort(-(queries @ rows.T), axis=1)[:, :50]

    def share(means: np.ndarray) -> float:
        ranked = np.argsort(-(queries @ means.T), axis=1)[:, :2]
        return float(
            np.mean([np.isin(exact_nearest(rows[b], means), r).mean() for b, r in zip(best, ranked, strict=True)])
        )

    assert share(settled(start, rows, lambda some: exact_nearest(some, start))) > share(start) + 0.01
