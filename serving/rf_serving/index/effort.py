"""Search effort of an ANN index (nprobe, efSearch), by the number of results."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Effort:
    """Effort that finds the best ``k`` rows."""

    k: int
    """Number of results."""
    width: int
    """Width of the search: lists probed (IVF-PQ's nprobe), or candidates kept while walking the graph (HNSW's efSearch)."""
    short_list: int
    """Candidates that are scored exactly (IVF-PQ); ``k`` where all scores are exact."""

    def scaled(self, k: int) -> "Effort":
        """Return the effort for more results, in proportion."""
        return Effort(k=k, width=-(-self.width * k // self.k), short_list=-(-self.short_list * k // self.k))


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
        return cls(Effort(**effort) for effort in written) if written else None
