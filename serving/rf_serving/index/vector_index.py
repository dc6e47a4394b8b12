"""What every index can do.

Shapes: N items, B queries, K results, D width.
"""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self

import faiss
import numpy as np
import numpy.typing as npt

from rf_platform.errors import CorruptError

NO_ROW = -1
"""Fills the end of a result that is shorter than asked for."""


class Found(NamedTuple):
    """Items found for one query or several, best first."""

    rows: npt.NDArray[np.int64]
    """[..., K]: rows of the indexed matrix, :data:`NO_ROW` where nothing more was found."""
    scores: npt.NDArray[np.float32]
    """[..., K]: dot products."""


class VectorIndex(ABC):
    """Finds the rows of a matrix with the largest dot products."""

    kind: ClassVar[str]
    """Name in the bundle's manifest and on the command line."""
    exact: ClassVar[bool]
    """Whether the result is always the true one."""
    settings: ClassVar[dict[str, int]]
    """What the index was built with, for the manifest."""

    def __init__(self, index: Any) -> None:
        self._index = index

    @classmethod
    def build(cls, vectors_ND: npt.NDArray[np.float32]) -> Self:
        """Index the rows of ``vectors_ND``; the same rows give the same index, with any number of threads."""
        index = cls._make(vectors_ND.shape[1])
        index.add(np.ascontiguousarray(vectors_ND, np.float32))
        return cls(index)

    @classmethod
    @abstractmethod
    def _make(cls, dim: int) -> Any:
        """Return an empty FAISS index."""

    @abstractmethod
    def _parameters(self, k: int) -> Any:
        """Return FAISS's search parameters for ``k`` results, or None."""

    @property
    def items(self) -> int:
        """Number of rows."""
        return int(self._index.ntotal)

    def search(self, queries_BD: npt.NDArray[np.float32], k: int) -> Found:
        """Return the ``k`` best rows of each query, [B, K] with K = min(k, N)."""
        k = min(k, self.items)
        scores, rows = self._index.search(np.ascontiguousarray(queries_BD, np.float32), k, params=self._parameters(k))
        return Found(rows=rows, scores=scores)

    def save(self, path: Path) -> None:
        """Write the index to a file."""
        faiss.write_index(self._index, str(path))

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read an index written by :meth:`save`.

        Raises:
            CorruptError: the file is no FAISS index.
        """
        try:
            return cls(faiss.read_index(str(path)))
        except RuntimeError as error:
            raise CorruptError(f"{path} is no FAISS index ({error}); build the bundle again") from error
