"""Whitening: no mean, no louder direction, length one on average."""

import numpy as np
import pytest

from rf_platform.texts.whitening import Moments, Whitening


def learned(vectors: np.ndarray, parts: int = 3, **options: int) -> Whitening:
    moments = Moments(vectors.shape[1])
    for part in np.array_split(vectors.astype(np.float32), parts):
        moments.add(part)
    return moments.whitening(**options)


def test_four_points_by_hand() -> None:
    """Variances 9 and 1 around (5, 5): both directions are damped by the 1, to 1/sqrt(10) and 1/sqrt(2), then scaled."""
    points = np.array([[5 + 3, 5 + 1], [5 + 3, 5 - 1], [5 - 3, 5 + 1], [5 - 3, 5 - 1]])
    whitened = learned(points)(points.astype(np.float32))
    expected = np.array([[3 / 10**0.5, 1 / 2**0.5]]) * np.array([[1, 1], [1, -1], [-1, 1], [-1, -1]])
    np.testing.assert_allclose(whitened, expected / (0.9 + 0.5) ** 0.5, atol=1e-6)


def test_directions_are_uncorrelated_and_vectors_of_length_one() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(5000, 6)) @ rng.normal(size=(6, 6)) + 3
    whitened = learned(vectors, dimensions=4)(vectors.astype(np.float32)).astype(np.float64)
    assert whitened.shape == (5000, 4)
    np.testing.assert_allclose(whitened.mean(axis=0), 0, atol=1e-4)
    covariance = np.cov(whitened.T)
    np.testing.assert_allclose(covariance - np.diag(np.diag(covariance)), 0, atol=1e-4)
    assert (whitened**2).sum(axis=1).mean() == pytest.approx(1, rel=1e-4)


def test_parts_do_not_matter() -> None:
    vectors = np.random.default_rng(1).normal(size=(100, 5))
    one, many = learned(vectors, 1), learned(vectors, 10)
    np.testing.assert_allclose(one.matrix_WD, many.matrix_WD, atol=1e-5)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_without_two_different_vectors_all_are_zero(count: int) -> None:
    whitening = learned(np.ones((count, 3)), 1)
    assert whitening(np.ones((2, 3), np.float32)).tolist() == [[0.0], [0.0]]
