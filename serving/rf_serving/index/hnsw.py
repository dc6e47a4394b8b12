"""The HNSW index: a graph that is walked greedily, for catalogs too large to scan (Malkov and Yashunin, 2016)."""

from typing import Any, ClassVar

import faiss

from rf_serving.index.vector_index import VectorIndex

LINKS = 32
"""Neighbours of a vector on each level (M)."""
BUILD_WIDTH = 200
"""Candidates kept while a vector is inserted (efConstruction)."""
SEARCH_WIDTH = 128
"""Candidates kept while searching (efSearch), or twice the results asked for if that is more."""


class HnswIndex(VectorIndex):
    """An approximate index; it may miss items and may return fewer than asked for."""

    kind: ClassVar[str] = "hnsw"
    exact: ClassVar[bool] = False
    settings: ClassVar[dict[str, int]] = {
        "links": LINKS,
        "build_width": BUILD_WIDTH,
        "search_width": SEARCH_WIDTH,
    }

    @classmethod
    def _make(cls, dim: int) -> Any:
        index = faiss.IndexHNSWFlat(dim, LINKS, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction = BUILD_WIDTH
        return index

    def _parameters(self, k: int) -> Any:
        return faiss.SearchParametersHNSW(efSearch=max(SEARCH_WIDTH, 2 * k))  # type: ignore[attr-defined]  # not in the stubs
