"""Interface of all vector indexes.

Shapes: N items, B queries, K results, D width.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from rf_platform.errors import CorruptError

NO_ROW = -1
"""Stands for nothing where fewer rows were found than asked for; :meth:`VectorIndex.search` always finds enough."""


class Found(NamedTuple):
    """Items found for one query or several, best first."""

    rows: npt.NDArray[np.int64]
    """[..., K]: rows of the indexed matrix, :data:`NO_ROW` where nothing more was found."""
    scores: npt.NDArray[np.float32]
    """[..., K]: dot products."""


class VectorIndex(ABC):
    """Finds the rows of a matrix with the largest dot products.

    The matrix itself is not copied: an index refers to the array it was built or loaded with, usually the memory-mapped
    ``vectors.npy`` of a bundle, with pages that all processes of a machine share. Searching changes nothing, so threads may
    search at the same time; FAISS takes the number of its own threads from the thread that calls
    (``faiss.omp_set_num_threads``).
    """

    kind: ClassVar[str]
    """Name in the bundle's manifest and on the command line."""
    title: ClassVar[str]
    """Name in charts."""
    exact: ClassVar[bool]
    """Whether the result is always the true one."""
    remote: ClassVar[bool] = False
    """Whether another machine searches, so that a search waits for the network and may fail."""

    def __init__(self, vectors_ND: npt.NDArray[np.float32]) -> None:
        self._vectors_ND = as_matrix(vectors_ND)

    @classmethod
    @abstractmethod
    def build(cls, vectors_ND: npt.NDArray[np.float32]) -> Self:
        """Index the rows of ``vectors_ND``; the same rows give the same index."""

    @classmethod
    @abstractmethod
    def load(cls, path: Path, vectors_ND: npt.NDArray[np.float32], settings: Mapping[str, Any]) -> Self:
        """Open an index written by :meth:`save`, memory-mapped.

        Args:
            path: what was given to :meth:`save`.
            vectors_ND: the rows it was built from.
            settings: its :attr:`settings`.

        Raises:
            CorruptError: the file is no such index, or an index of other rows.
        """

    @abstractmethod
    def save(self, path: Path) -> None:
        """Write what the rows themselves do not tell; nothing, where there is no more to tell."""

    @abstractmethod
    def search(self, queries_BD: npt.NDArray[np.float32], k: int) -> Found:
        """Return the ``k`` best rows of each query, [B, K] with K = min(k, N).

        Raises:
            CorruptError: the queries are not as wide as the rows.
            UnavailableError: the device, the memory for the search, or the machine that searches is gone.
            RunError: FAISS refuses the search for another reason.
        """

    @abstractmethod
    def to_device(self, number: int) -> None:
        """Search on a CUDA device from now on; a kind that cannot use one stays on the CPU."""

    def as_queries(self, queries_BD: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return queries as FAISS takes them.

        Raises:
            CorruptError: they are not as wide as the rows.
        """
        queries_BD = as_matrix(queries_BD)
        if queries_BD.shape[1] != self.dim:
            raise CorruptError(
                f"a query has {queries_BD.shape[1]} numbers and a row of the index {self.dim}: towers and index are not of one "
                f"bundle; build the bundle again"
            )
        return queries_BD

    def discard(self) -> None:  # noqa: B027
        """Remove what there is of the index outside of its file; nothing, for most kinds."""

    @property
    def most_results(self) -> float:
        """Most results at the usual cost; more are scanned for."""
        return math.inf

    @property
    def on_device(self) -> bool:
        """Whether a CUDA device searches."""
        return False

    @property
    def settings(self) -> dict[str, Any]:
        """Build and tuning parameters, for the manifest."""
        return {}

    @property
    def items(self) -> int:
        """Number of rows N."""
        return len(self._vectors_ND)

    @property
    def dim(self) -> int:
        """Width D of a row."""
        return int(self._vectors_ND.shape[1])


def as_matrix(vectors_ND: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return the rows as FAISS takes them, float32 in C order; a copy only where they are not."""
    return np.ascontiguousarray(vectors_ND, np.float32)
