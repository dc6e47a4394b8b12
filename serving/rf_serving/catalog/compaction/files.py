"""Input and output files of a compaction; see :mod:`rf_serving.catalog.compaction.builder`."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rf_platform.bundle import BundleManifest
    from rf_platform.registry.journal import Entry

ITEMS = "items.arrow"
SEQUENCES = "sequences.npy"
JOB = "job.json"
ALIVE, LIVE_ITEMS, LIVE_VECTORS, LIVE_TOKENS, LIVE_SIDES, LIVE_SEQUENCES = (
    "alive.npy",
    "live_items.arrow",
    "live_vectors.npy",
    "live_tokens.npy",
    "live_sides.npy",
    "live_sequences.npy",
)


@dataclass(frozen=True, kw_only=True)
class Anchor:
    """The last change in a compacted catalog: it tells which journal the catalog follows."""

    item_id: str
    changed_us: int

    @classmethod
    def at(cls, entry: "Entry") -> "Anchor":
        """Return the anchor at a change."""
        return cls(item_id=entry.item_id, changed_us=entry.changed_us)

    @classmethod
    def of(cls, manifest: "BundleManifest") -> "Anchor | None":
        """Return the anchor that a manifest notes."""
        noted = manifest.metrics.get("anchor")
        return None if noted is None else cls(**noted)


@dataclass(frozen=True, kw_only=True)
class Job:
    """Job of a builder process; paths as text, so that it is plain JSON."""

    bundle: str
    """Directory of the bundle: its spec, encoder and manifest."""
    base: str
    """Directory of the items' vectors, tokens and features: the bundle, or an earlier compacted catalog."""
    target: str
    """Directory to build."""
    sequence: int
    """Last change that is in it."""
    anchor: dict[str, Any] | None
    index_kind: str
    index_efforts: list[dict[str, int]] | None
    """Tuned when the bundle was built."""
    niceness: int
    """Added to that of the server."""

    def save(self, directory: Path) -> None:
        """Write the job beside its input."""
        (directory / JOB).write_text(json.dumps(asdict(self)))

    @classmethod
    def load(cls, directory: Path) -> "Job":
        """Read what :meth:`save` wrote."""
        return cls(**json.loads((directory / JOB).read_text()))
