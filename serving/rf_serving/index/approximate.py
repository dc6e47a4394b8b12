"""Approximate indexes: the search by efforts, which are tuned on queries.

Shapes: B queries, S candidates, K results, D width.
"""

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from rf_serving.index.exact import exact_search
from rf_serving.index.vector_index import NO_ROW, Found, VectorIndex

_FORMER = {"width": "probes", "short_list": "refine_k"}
"""Keys of manifests that earlier versions wrote."""


@dataclass(frozen=True, kw_only=True)
class Effort:
    """Effort that finds the best ``k`` rows."""

    k: int
    """Number of results."""
    probes: int
    """Width of the search: lists probed (IVF-PQ's nprobe), or candidates kept while walking the graph (HNSW's efSearch)."""
    refine_k: int
    """Candidates that are scored exactly (IVF-PQ); ``k`` where all scores are exact."""

    def scaled(self, k: int) -> "Effort":
        """Return the effort for more results, in proportion."""
        return Effort(k=k, probes=-(-self.probes * k // self.k), refine_k=-(-self.refine_k * k // self.k))


class Efforts:
    """The efforts that were tuned; between and beyond them, the next one that is enough."""

    def __init__(self, efforts: Iterable[Effort]) -> None:
        self.all = tuple(sorted(efforts, key=lambda effort: effort.k))
        assert self.all

    def of(self, k: int) -> Effort:
        """Return the effort for ``k`` results: that of the next larger number, or of the largest in proportion."""
        return next((effort for effort in self.all if effort.k >= k), None) or self.all[-1].scaled(k)

    def plain(self) -> list[dict[str, int]]:
        """Return them for the manifest."""
        return [asdict(effort) for effort in self.all]

    @classmethod
    def read(cls, settings: Mapping[str, Any]) -> "Efforts | None":
        """Return what :meth:`plain` wrote as ``settings["efforts"]``, None for an index that was not tuned."""
        written = settings.get("efforts")
        if not written:
            return None
        return cls(Effort(**{_FORMER.get(key, key): value for key, value in effort.items()}) for effort in written)


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
    def probes(self, k: int) -> Sequence[int]:
        """Return the numbers of probes worth trying for ``k`` results, rising."""

    @abstractmethod
    def refine_ks(self, k: int) -> Sequence[int]:
        """Return the lengths of the short list worth trying for ``k`` results, rising."""

    @abstractmethod
    def cost(self, effort: Effort) -> float:
        """Return the work of a search in units of its own: counted, not timed, so that a busy machine tunes alike."""
