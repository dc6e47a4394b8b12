"""Exact scores of a few rows of the matrix.

Shapes: N items, B queries, S candidates, K results, D width.
"""

import numpy as np
import numpy.typing as npt

from rf_serving.index.untyped import faiss
from rf_serving.index.vector_index import NO_ROW, Found

_AT_ONCE = 64


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


def scores_of(
    vectors_ND: npt.NDArray[np.float32], queries_BD: npt.NDArray[np.float32], rows_BS: npt.NDArray[np.int64]
) -> npt.NDArray[np.float32]:
    """Return the dot products of each query's candidates [B, S], in their order; ``-inf`` for ``NO_ROW``."""
    scores_BS = np.empty(rows_BS.shape, np.float32)
    for start in range(0, len(rows_BS), _AT_ONCE):
        some = slice(start, start + _AT_ONCE)
        scores_BS[some] = np.einsum("bsd,bd->bs", vectors_ND[rows_BS[some]], queries_BD[some])
    scores_BS[rows_BS == NO_ROW] = -np.inf
    return scores_BS
