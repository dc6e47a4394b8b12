"""Common part of the ANN indexes HNSW and IVF-PQ: efforts that are tuned on queries.

Shapes: B queries, S candidates, K results, D width.
"""

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from rf_serving.index.effort import Effort, Efforts
from rf_serving.index.exact import exact_search
from rf_serving.index.vector_index import NO_ROW, Found, VectorIndex


class ApproximateIndex(VectorIndex):
    """An index that may miss items; where it finds fewer than asked for, it scans."""

    exact: ClassVar[bool] = False

    def __init__(self, vectors_ND: npt.NDArray[np.float32], efforts: Efforts) -> None:
        super().__init__(vectors_ND)
        self.efforts = efforts

    def search(self, queries_BD: npt.NDArray[np.float32], k: int) -> Found:
        """Return the ``k`` best rows of each query, [B, K] with K = min(k, N)."""
        k = min(k, self.items)
        queries_BD = self.as_queries(queries_BD)
        if k == 0:
            return exact_search(self._vectors_ND, queries_BD, k)
        found = self.search_with(queries_BD, k, self.efforts.of(k))
        short = found.rows[:, -1] == NO_ROW
        if short.any():
            found.rows[short], found.scores[short] = exact_search(self._vectors_ND, queries_BD[short], k)
        return found

    @abstractmethod
    def search_with(self, queries_BD: npt.NDArray[np.float32], k: int, effort: Effort) -> Found:
        """Return the ``k`` best rows of each query [B, K] found with an effort; ``NO_ROW`` behind them if they are fewer."""

    @abstractmethod
    def candidates(self, queries_BD: npt.NDArray[np.float32], effort: Effort) -> npt.NDArray[np.int64]:
        """Return the short list of each query [B, S], the most promising rows first, ``NO_ROW`` at the end."""

    @abstractmethod
    def widths(self, k: int) -> Sequence[int]:
        """Return the widths worth trying for ``k`` results, rising."""

    @abstractmethod
    def short_lists(self, k: int) -> Sequence[int]:
        """Return the lengths of the short list worth trying for ``k`` results, rising."""

    @abstractmethod
    def cost(self, effort: Effort) -> float:
        """Return the work of a search in units of its own: counted, not timed, so that a busy machine tunes alike."""
