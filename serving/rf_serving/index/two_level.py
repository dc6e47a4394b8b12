"""Many centroids at the price of few: k-means of k-means, settled on far more rows than it was made from.

``faiss.contrib.clustering.two_level_clustering`` raises an error where a group is so small that it gets no centroid, and always
takes 25 rounds within the groups.

Shapes: N rows, S rows of a sample, C centroids, D width.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from rf_serving.index.faiss_library import building, faiss

ROUNDS = 10
"""Lloyd iterations of each k-means; more move the centroids little."""
POLISH_ROUNDS = 2
"""Iterations over all centroids at last: rows at the edge of a group find centroids of other groups."""
FLAT_LIMIT = 1024
"""Up to so many centroids one k-means is quick enough."""
SETTLED_ROWS = 128
"""Rows that a centroid settles on, on average."""
LEAN = 0.5
"""Exponent of the lengths of settled centroids."""
_LEAST_MEAN = 0.1
_ROWS_AT_ONCE = 65_536
Nearest = Callable[[npt.NDArray[np.float32]], npt.NDArray[np.int64]]


def centroids(sample_SD: npt.NDArray[np.float32], count: int, seed: int = 0) -> npt.NDArray[np.float32]:
    """Return unit centroids [C, D] of a sample, ``count`` of them or, if it has fewer rows, as many as it has rows.

    The sample is divided into about sqrt(C) groups, and each group among its share of the centroids: this takes about sqrt(C)
    distances a row and round instead of C. A group's share follows its size, so that the clusters are of similar size.
    """
    count = min(count, len(sample_SD))
    if count <= FLAT_LIMIT:
        return _kmeans(sample_SD, count, seed, ROUNDS)
    top_GD = _kmeans(sample_SD, round(count**0.5), seed, ROUNDS)
    group_S = exact_nearest(sample_SD, top_GD)
    members = [np.flatnonzero(group_S == group) for group in range(len(top_GD))]
    parts = [
        _kmeans(sample_SD[rows], share, seed, ROUNDS)
        for rows, share in zip(members, _shares([len(rows) for rows in members], count), strict=True)
        if share
    ]
    return _kmeans(sample_SD, count, seed, POLISH_ROUNDS, start_CD=np.concatenate(parts))


def settled(
    centroids_CD: npt.NDArray[np.float32], vectors_ND: npt.NDArray[np.float32], nearest: Nearest
) -> npt.NDArray[np.float32]:
    """Return the centroids [C, D] moved to the mean direction of their rows, and longer the more these differ.

    The mean of a few rows of a sample points aside; that of :data:`SETTLED_ROWS` does not. Where two centroids are as close to a
    query, the list of more scattered rows has more that are closer: lengths of ``|mean| ** -LEAN`` say so.

    Args:
        centroids_CD: of a sample, of unit length.
        vectors_ND: all rows, of which every n-th is read, some at a time.
        nearest: finds the centroid of each row.
    """
    count = len(centroids_CD)
    step = max(1, len(vectors_ND) // (count * SETTLED_ROWS))
    sums_CD, sizes_C = np.zeros(centroids_CD.shape), np.zeros(count, np.int64)
    for start in range(0, len(vectors_ND), _ROWS_AT_ONCE * step):
        rows_SD = np.ascontiguousarray(vectors_ND[start : start + _ROWS_AT_ONCE * step : step])
        nearest_S = nearest(rows_SD)
        members = csr_array(
            (np.ones(len(rows_SD), np.float32), nearest_S, np.arange(len(rows_SD) + 1)), (len(rows_SD), count)
        )
        sums_CD += members.T @ rows_SD
        sizes_C += np.bincount(nearest_S, minlength=count)
    length_C = np.linalg.norm(sums_CD, axis=1)
    there = length_C > 0
    means_CD = centroids_CD.copy()
    mean_C = length_C[there] / sizes_C[there]
    means_CD[there] = sums_CD[there] / (length_C[there] * np.maximum(mean_C, _LEAST_MEAN) ** LEAN)[:, None]
    return means_CD


def exact_nearest(rows_SD: npt.NDArray[np.float32], centroids_CD: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
    """Return the centroid [S] with the largest dot product."""
    nearest: npt.NDArray[np.int64] = faiss.knn(rows_SD, centroids_CD, 1, metric=faiss.METRIC_INNER_PRODUCT)[1][:, 0]
    return nearest


def _shares(sizes: list[int], count: int) -> list[int]:
    """Divide ``count`` in proportion to ``sizes``: at most a size, and the remainder to the largest fractions."""
    exact = np.asarray(sizes) * count / sum(sizes)
    shares = np.floor(exact).astype(np.int64)
    shares[np.argsort(shares - exact, kind="stable")[: count - int(shares.sum())]] += 1
    return shares.tolist()  # type: ignore[no-any-return]  # of an array


def _kmeans(
    sample_SD: npt.NDArray[np.float32],
    count: int,
    seed: int,
    rounds: int,
    start_CD: npt.NDArray[np.float32] | None = None,
) -> npt.NDArray[np.float32]:
    means = faiss.Kmeans(
        sample_SD.shape[1],
        count,
        niter=rounds,
        spherical=True,
        seed=seed,
        min_points_per_centroid=1,
        max_points_per_centroid=len(sample_SD),
    )
    with building():
        means.train(sample_SD, init_centroids=start_CD)
    found: npt.NDArray[np.float32] = means.centroids
    return found
