"""Options of ``rf bench latency``."""

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rf_platform.errors import UsageError
from rf_serving.index import LOCAL_KINDS

RESULTS = 100
"""Results of a query (recall@100); recall@10 is that of its first ten."""
RECALL_AT = (10, RESULTS)
_UNITS = {"": 1, "k": 10**3, "m": 10**6}


@dataclass(frozen=True, kw_only=True)
class LatencyOptions:
    """Sizes and kinds."""

    sizes: tuple[int, ...] = (10_000, 100_000, 1_000_000, 10_000_000)
    """Items of each catalog."""
    kinds: tuple[str, ...] = tuple(LOCAL_KINDS)
    queries: int = 1000
    """Queries that are timed; as many others tune the indexes."""
    dim: int = 64
    """Width of the model."""
    seed: int = 0
    recall: float = 0.95
    """Recall@100 that approximate indexes are tuned for."""
    threads: int = 1
    """CPU threads of encoding and building; queries have one."""
    rounds: int = 10
    """Number of turns of each kind."""
    device: str = "cpu"
    """Device of the searches, as ``RF_INDEX_DEVICE`` has it; indexes are built on the CPU."""
    training_steps: int = 400
    """Steps that the towers are trained for."""
    hnsw_limit: int = 1_000_000
    """Largest catalog with an HNSW index: the graph of ten times as many takes hours."""

    def __post_init__(self) -> None:
        """Check what can be checked."""
        if not self.sizes:
            raise UsageError("--sizes names no size; use for example --sizes 10k,1m")
        unknown = [kind for kind in self.kinds if kind not in LOCAL_KINDS]
        if unknown or not self.kinds:
            raise UsageError(
                f"--kinds={','.join(self.kinds)!r}: {unknown or 'nothing'} is no kind; choose from {', '.join(LOCAL_KINDS)}"
            )
        if min(self.sizes) < RESULTS:
            raise UsageError(f"--sizes: a catalog of {min(self.sizes)} items is too small; the least is {RESULTS}")
        if not 0 < self.recall <= 1:
            raise UsageError(f"--recall={self.recall} must be above 0 and at most 1")

    def kinds_for(self, items: int) -> list[str]:
        """Return the kinds that are built for a catalog; the exact scan is what all are compared with."""
        wanted = ["exact", *(kind for kind in self.kinds if kind != "exact")]
        return [kind for kind in wanted if kind != "hnsw" or items <= self.hnsw_limit]

    def to_json(self) -> str:
        """Return the options as text."""
        return json.dumps(asdict(self))

    @classmethod
    def read(cls, path: Path) -> "LatencyOptions":
        """Read what :meth:`to_json` returned."""
        values: dict[str, Any] = json.loads(path.read_text())
        plain: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}
        return cls(**plain)


def parse_sizes(text: str) -> tuple[int, ...]:
    """Read numbers of items such as ``10k,1m`` or ``500,25000``, and return them rising.

    Raises:
        UsageError: something is no number of items.
    """
    sizes = set()
    for part in filter(None, text.lower().replace(" ", "").split(",")):
        match = re.fullmatch(r"(\d+(?:\.\d+)?)([km]?)", part)
        if match is None:
            raise UsageError(f"--sizes: {part!r} is no number of items; write it like 5000, 10k or 1.5m")
        sizes.add(round(float(match[1]) * _UNITS[match[2]]))
    return tuple(sorted(sizes))


def size_name(items: int) -> str:
    """Return ``10k`` for 10,000."""
    for unit, factor in (("m", 10**6), ("k", 10**3)):
        if items >= factor and items * 10 % factor == 0:
            return f"{items / factor:g}{unit}"
    return str(items)
