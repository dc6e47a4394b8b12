"""The exact index: every item is scored.

Shapes: N items, B queries, S candidates, K results, D width.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from rf_serving.index.device import MOST_RESULTS, DeviceSearch
from rf_serving.index.faiss_library import building, faiss, searching
from rf_serving.index.vector_index import Found, VectorIndex, as_matrix


def exact_search(vectors_ND: npt.NDArray[np.float32], queries_BD: npt.NDArray[np.float32], k: int) -> Found:
    """Return the ``k`` rows of ``vectors_ND`` with the largest dot products, [B, K] with K = min(k, N).

    The matrix is scanned where it lies, in memory or in a mapped file; it must be float32 in C order to not be copied first.
    """
    k = min(k, len(vectors_ND))
    queries_BD = as_matrix(queries_BD)
    if k == 0:
        return Found(np.zeros((len(queries_BD), 0), np.int64), np.zeros((len(queries_BD), 0), np.float32))
    with searching():
        scores, rows = faiss.knn(queries_BD, vectors_ND, k, metric=faiss.METRIC_INNER_PRODUCT)
    return Found(rows=rows, scores=scores)


def best_of(
    vectors_ND: npt.NDArray[np.float32],
    queries_BD: npt.NDArray[np.float32],
    rows_BS: npt.NDArray[np.int64],
    k: int,
) -> Found:
    """Return the ``k`` best of each query's candidates [B, K] by their dot products; ``NO_ROW`` ends a list of candidates."""
    queries, dim = queries_BD.shape
    found = Found(np.empty((queries, k), np.int64), np.empty((queries, k), np.float32))
    faiss.knn_inner_products_by_idx(
        faiss.swig_ptr(queries_BD),
        faiss.swig_ptr(vectors_ND),
        faiss.swig_ptr(rows_BS),
        dim,
        queries,
        len(vectors_ND),
        rows_BS.shape[1],
        k,
        faiss.swig_ptr(found.scores),
        faiss.swig_ptr(found.rows),
        rows_BS.shape[1],
    )
    return found


class ExactIndex(VectorIndex):
    """A full scan of the rows: always right, and the faster choice for small catalogs. It has no file of its own."""

    kind: ClassVar[str] = "exact"
    title: ClassVar[str] = "exact scan"
    exact: ClassVar[bool] = True

    def __init__(self, vectors_ND: npt.NDArray[np.float32]) -> None:
        super().__init__(vectors_ND)
        self._device: DeviceSearch | None = None

    @classmethod
    def build(cls, vectors_ND: npt.NDArray[np.float32]) -> Self:
        """Take the rows."""
        return cls(vectors_ND)

    @classmethod
    def load(cls, path: Path, vectors_ND: npt.NDArray[np.float32], settings: Mapping[str, Any]) -> Self:
        """Take the rows; there is no file."""
        return cls(vectors_ND)

    def save(self, path: Path) -> None:
        """Write nothing: the rows are all there is."""

    def to_device(self, number: int) -> None:
        """Copy the rows to a CUDA device."""
        with building():
            flat = faiss.IndexFlatIP(self.dim)
            flat.add(self._vectors_ND)
        self._device = DeviceSearch(flat, number)

    @property
    def on_device(self) -> bool:
        """Whether a CUDA device searches."""
        return self._device is not None

    @property
    def most_results(self) -> float:
        """Most results of a device; the CPU scans for more."""
        return MOST_RESULTS if self.on_device else math.inf

    def search(self, queries_BD: npt.NDArray[np.float32], k: int) -> Found:
        """Return the ``k`` best rows of each query, [B, K] with K = min(k, N)."""
        k, queries_BD = min(k, self.items), self.as_queries(queries_BD)
        if self._device is not None and self._device.takes(k):
            return self._device.search(queries_BD, k)
        return exact_search(self._vectors_ND, queries_BD, k)
