"""The exact index: every item is scored."""

from typing import Any, ClassVar

import faiss

from rf_serving.index.vector_index import VectorIndex


class ExactIndex(VectorIndex):
    """A full scan: always right, and the faster choice for small catalogs."""

    kind: ClassVar[str] = "exact"
    exact: ClassVar[bool] = True
    settings: ClassVar[dict[str, int]] = {}

    @classmethod
    def _make(cls, dim: int) -> Any:
        return faiss.IndexFlatIP(dim)

    def _parameters(self, k: int) -> None:
        return None
