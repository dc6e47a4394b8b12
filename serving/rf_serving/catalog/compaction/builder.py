"""Builder of a compacted catalog, a process of its own: ``python -m rf_serving.catalog.compaction.builder DIRECTORY``.

The directory has a :class:`Job` and its input. The process has its own interpreter lock and a low priority, so the servers beside
it notice nothing; it does not import torch.

Shapes: N rows of the base, D width.
"""

import json
import os
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.lib.format import open_memmap

from rf_platform.bundle import files, publish, read_manifest, write_manifest
from rf_platform.features.compared import compared_values, marked
from rf_platform.features.encode import FeatureEncoder
from rf_platform.features.spec import FeatureSpec
from rf_platform.interrupts import end_with_parent
from rf_serving.catalog.item_schema import ItemSchema
from rf_serving.index import INDEX_KINDS, ApproximateIndex, Efforts, MilvusIndex, VectorIndex
from rf_serving.index.points import Points

if TYPE_CHECKING:
    from rf_platform.bundle import BundleManifest
    from rf_platform.registry.journal import Entry

ITEMS = "items.arrow"
SEQUENCES = "sequences.npy"
JOB = "job.json"
ALIVE, LIVE_ITEMS, LIVE_VECTORS, LIVE_TOKENS, LIVE_ITEM_STATES, LIVE_SEQUENCES = (
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


_ROWS_AT_ONCE = 65_536


def compact(given: Path) -> None:
    """Build what the job in a directory asks for."""
    job = Job.load(given)
    os.nice(job.niceness)
    base, bundle = Path(job.base), Path(job.bundle)
    live_mask_N = np.load(given / ALIVE)
    spec = FeatureSpec.load(bundle / files.SPEC)
    schema = ItemSchema.of(FeatureEncoder.load(spec, bundle / files.ENCODER))
    of = read_manifest(bundle)
    with publish(Path(job.target)) as staging:
        vectors_ND = _gather(base / files.VECTORS, live_mask_N, given / LIVE_VECTORS, staging / files.VECTORS)
        _gather(base / files.TOKENS, live_mask_N, given / LIVE_TOKENS, staging / files.TOKENS)
        if (given / LIVE_ITEM_STATES).exists():
            _gather(base / files.ITEM_STATES, live_mask_N, given / LIVE_ITEM_STATES, staging / files.ITEM_STATES)
        _gather(base / SEQUENCES, live_mask_N, given / LIVE_SEQUENCES, staging / SEQUENCES)
        _write_items(base, live_mask_N, given / LIVE_ITEMS, staging / ITEMS, schema)
        kind = INDEX_KINDS[job.index_kind]
        if issubclass(kind, MilvusIndex):
            index: VectorIndex = _grown(kind, job, given, vectors_ND, staging / ITEMS, schema, spec)
        else:
            index = kind.build(vectors_ND)
        if isinstance(index, ApproximateIndex) and (tuned := Efforts.read({"efforts": job.index_efforts})):
            index.efforts = tuned
        index.save(staging / files.INDEX)
        write_manifest(
            staging,
            name=Path(job.target).name,
            run=of.run,
            dataset_fingerprint=of.dataset_fingerprint,
            spec_hash=of.spec_hash,
            metrics={"anchor": job.anchor},
            index={"kind": index.kind, **index.settings},
        )


def _grown(
    kind: type[MilvusIndex],
    job: Job,
    given: Path,
    vectors_ND: npt.NDArray[np.float32],
    items: Path,
    schema: ItemSchema,
    spec: FeatureSpec,
) -> MilvusIndex:
    """Write the changes into the collection of the base's index, and return the index of all rows in it."""
    base = Path(job.base)
    settings = read_manifest(base).index.model_dump()
    before = kind.load(base / files.INDEX, np.load(base / files.VECTORS, mmap_mode="r"), settings)
    live = schema.cast(pa.ipc.open_file(pa.memory_map(str(given / LIVE_ITEMS))).read_all())
    ids = pa.ipc.open_file(pa.memory_map(str(items))).read_all()[schema.key].to_pylist()
    was = [item for batch in _items(base) for item in batch.column(schema.key).to_pylist()]
    remaining, markers = set(ids), marked(spec)
    points = Points(
        ids=live[schema.key].to_pylist(),
        fields=before.fields,
        columns={
            each.feature: compared_values(live[each.feature], each.dtype, markers=each.feature in markers)
            for each in before.fields
        },
        changes_N=np.load(given / LIVE_SEQUENCES),
    )
    return before.grown(vectors_ND, ids, points, [item for item in was if item not in remaining], job.sequence)


def _gather(base: Path, live_mask_N: npt.NDArray[np.bool_], live: Path, target: Path) -> npt.NDArray[np.float32]:
    """Write the living rows of the base, then the live ones; a base without the file has zeros."""
    live_rows = np.load(live)
    rows = np.flatnonzero(live_mask_N)
    source = np.load(base, mmap_mode="r") if base.exists() else None
    shape = (len(rows) + len(live_rows), *live_rows.shape[1:])
    gathered = open_memmap(target, "w+", live_rows.dtype, shape)
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        some = rows[start : start + _ROWS_AT_ONCE]
        gathered[start : start + len(some)] = 0 if source is None else source[some]
    gathered[len(rows) :] = live_rows
    gathered.flush()
    written: npt.NDArray[np.float32] = np.load(target, mmap_mode="r")
    return written


def _write_items(base: Path, live_mask_N: npt.NDArray[np.bool_], live: Path, target: Path, schema: ItemSchema) -> None:
    with pa.ipc.new_file(str(target), schema.arrow) as sink:
        start = 0
        for batch in _items(base):
            alive = live_mask_N[start : start + batch.num_rows]
            sink.write_table(schema.cast(pa.Table.from_batches([batch]).filter(pa.array(alive))))
            start += batch.num_rows
        sink.write_table(pa.ipc.open_file(pa.memory_map(str(live))).read_all().combine_chunks())


def _items(base: Path) -> Iterator[pa.RecordBatch]:
    if (base / ITEMS).exists():
        yield from pa.ipc.open_file(pa.memory_map(str(base / ITEMS))).read_all().to_batches(_ROWS_AT_ONCE)
    else:
        with pq.ParquetFile(base / files.ITEMS) as source:
            yield from source.iter_batches(_ROWS_AT_ONCE)


if __name__ == "__main__":
    end_with_parent()
    compact(Path(sys.argv[1]))
