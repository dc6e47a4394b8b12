"""The HNSW index: a graph that is walked greedily, for catalogs too large to scan (Malkov and Yashunin, 2016).

Shapes: N items, B queries, K results, D width.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from rf_platform.cli.console import track
from rf_platform.errors import CorruptError
from rf_serving.index.approximate import ApproximateIndex, Effort, Efforts
from rf_serving.index.faiss_library import building, faiss, read_faiss, searching, writing
from rf_serving.index.vector_index import Found

LINKS = 32
"""Neighbours of a vector on each level (M)."""
BUILD_WIDTH = 200
"""Candidates kept while a vector is inserted (efConstruction)."""
ROWS_AT_ONCE = 16_384
UNTUNED = Effort(k=64, probes=128, refine_k=64)
"""Twice as many candidates (efSearch) as results."""
_SHARES = (1, 1.25, 1.5, 2, 2.5, 3, 4, 6, 8, 12, 16, 32, 64)


class HnswIndex(ApproximateIndex):
    """A graph over the rows: the fastest search for its recall, and 256 bytes an item beside the vectors.

    The file holds the links only; both they and the rows stay in their files and are mapped.
    """

    kind: ClassVar[str] = "hnsw"
    title: ClassVar[str] = "HNSW"

    def __init__(self, vectors_ND: npt.NDArray[np.float32], efforts: Efforts, graph: Any) -> None:
        super().__init__(vectors_ND, efforts)
        self._graph = graph

    @classmethod
    def build(cls, vectors_ND: npt.NDArray[np.float32]) -> Self:
        """Link the rows; the same rows give the same graph, with any number of threads."""
        graph = faiss.IndexHNSWFlat(vectors_ND.shape[1], LINKS, faiss.METRIC_INNER_PRODUCT)
        graph.hnsw.efConstruction = BUILD_WIDTH
        index = cls(vectors_ND, Efforts([UNTUNED]), graph)
        chunks = range(0, index.items, ROWS_AT_ONCE)
        with track("linking items", len(chunks)) as progress:
            for start in chunks:
                with building():
                    graph.add(index._vectors_ND[start : start + ROWS_AT_ONCE])
                progress.advance()
        return index

    def save(self, path: Path) -> None:
        """Write the links."""
        with writing(path):
            faiss.write_index(self._graph, str(path), faiss.IO_FLAG_SKIP_STORAGE)

    @classmethod
    def load(cls, path: Path, vectors_ND: npt.NDArray[np.float32], settings: Mapping[str, Any]) -> Self:
        """Map the links.

        Raises:
            CorruptError: the file is no graph, or one over other rows.
        """
        graph = read_faiss(path, faiss.IO_FLAG_MMAP_IFC | faiss.IO_FLAG_SKIP_STORAGE)
        index = cls(vectors_ND, Efforts.read(settings) or Efforts([UNTUNED]), graph)
        if not isinstance(graph, faiss.IndexHNSW) or (graph.ntotal, graph.d) != (index.items, index.dim):
            raise CorruptError(f"{path} is no graph over {index.items} rows of {index.dim}; build the bundle again")
        index._walk_over_rows()
        return index

    def _walk_over_rows(self) -> None:
        """Make the graph read the rows where they are, instead of a copy of its own."""
        flat = faiss.IndexFlat(self.dim, faiss.METRIC_INNER_PRODUCT)
        # The view is kept alive by whatever keeps the links alive, and the rows by this object.
        flat.codes = faiss.MaybeOwnedVectorUInt8.create_view(
            faiss.swig_ptr(self._vectors_ND.reshape(-1).view(np.uint8)),
            self._vectors_ND.nbytes,
            self._graph.hnsw.neighbors.owner,
        )
        flat.ntotal = self.items
        self._graph.storage, self._graph.own_fields = flat, False
        self._storage = flat

    def to_device(self, number: int) -> None:
        """Stay on the CPU: FAISS walks graphs nowhere else."""

    def search_with(self, queries_BD: npt.NDArray[np.float32], k: int, effort: Effort) -> Found:
        """Return the ``k`` best rows found."""
        parameters = faiss.SearchParametersHNSW(efSearch=max(effort.probes, k))
        with searching():
            scores, rows = self._graph.search(queries_BD, k, params=parameters)
        return Found(rows=rows, scores=scores)

    def candidates(self, queries_BD: npt.NDArray[np.float32], effort: Effort) -> npt.NDArray[np.int64]:
        """Return the result itself: its scores are exact."""
        return self.search_with(queries_BD, effort.k, effort).rows

    def probes(self, k: int) -> Sequence[int]:
        """Return efSearch from ``k`` on."""
        return [int(max(k, 16) * share) for share in _SHARES]

    def refine_ks(self, k: int) -> Sequence[int]:
        """Return ``k`` alone."""
        return [k]

    def cost(self, effort: Effort) -> float:
        """Return the candidates kept, each of which has its links scored."""
        return effort.probes

    @property
    def settings(self) -> dict[str, Any]:
        """Links, efConstruction, and the tuned efforts; ``probes`` is efSearch."""
        return {"links": LINKS, "build_width": BUILD_WIDTH, "efforts": self.efforts.plain()}
