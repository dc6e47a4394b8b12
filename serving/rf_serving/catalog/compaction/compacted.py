"""Compacted catalogs on disk: directories of files that all processes of a machine map; what is deleted is built again.

One is built like a bundle, all at once and with a manifest, so a builder that is killed leaves no half of one.

Shapes: N items, W width of what a re-ranker keeps of an item.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import rmtree

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from rf_platform.bundle import files, find_damage, manifest_sha256, read_manifest
from rf_platform.errors import CorruptError, RfError
from rf_platform.files import new_file
from rf_platform.locks import claimed
from rf_platform.registry.journal import CatalogJournal, Entry
from rf_platform.staging import scratch
from rf_serving.bundle.served import ServedBundle
from rf_serving.catalog.base_segment import BaseSegment
from rf_serving.catalog.compaction.builder import ITEMS, SEQUENCES, Anchor
from rf_serving.catalog.compaction.cache_directory import directory_name, occupy
from rf_serving.catalog.item_schema import ItemSchema
from rf_serving.index import open_index

_INPUT = ".input-"
_LOCK = ".lock"


class CompactedCatalogs:
    """Those of one bundle, named by the last change that is in them.

    Their directory is not removed before :meth:`close`; what was opened stays usable after it.

    Args:
        cache: directory for the catalogs of all bundles.
        bundle: has the item tower that encoded them.
        device: what searches, ``RF_INDEX_DEVICE``.
    """

    def __init__(self, cache: Path, bundle: ServedBundle, device: str = "cpu") -> None:
        self._bundle, self._device = bundle, device
        self.directory = cache / directory_name(bundle.name, manifest_sha256(bundle.path))
        self.close = occupy(self.directory, self)
        """Let others remove the directory."""

    def path(self, sequence: int) -> Path:
        """Return where the catalog lies, or is to lie, that ends with a change."""
        return self.directory / f"{sequence:020d}"

    def newest(self, above: int = 0) -> int | None:
        """Return the last change of the newest one, if it is above a number."""
        return max((sequence for sequence in self._sequences() if sequence > above), default=None)

    def open(self, sequence: int) -> BaseSegment:
        """Map the files of one.

        Raises:
            RfError: they are damaged, or were deleted meanwhile.
        """
        path, bundle = self.path(sequence), self._bundle
        manifest = read_manifest(path)
        if damage := find_damage(path, manifest, checksums=False):
            raise CorruptError(f"the compacted catalog {path} is damaged: {', '.join(damage)}; delete it")
        items = pa.ipc.open_file(pa.memory_map(str(path / ITEMS))).read_all()
        schema = ItemSchema.of(bundle.encoder)
        ids = items[schema.key].to_pylist()
        vectors_ND = np.load(path / files.VECTORS, mmap_mode="r")
        settings = manifest.index.model_dump()
        return BaseSegment(
            path=path,
            schema=schema,
            ids=ids,
            row_of={item: row for row, item in enumerate(ids)},
            index=open_index(manifest.index.kind, path / files.INDEX, vectors_ND, settings, self._device),
            vectors_ND=vectors_ND,
            tokens_ND=np.asarray(np.load(path / files.TOKENS, mmap_mode="r")),
            item_states_NW=self._item_states(path),
            read_items=lambda: items,
            sequence=sequence,
            sequence_N=np.load(path / SEQUENCES, mmap_mode="r"),
        )

    def _item_states(self, path: Path) -> npt.NDArray[np.floating] | None:
        if self._bundle.ranker is None:
            return None
        if not (path / files.ITEM_STATES).exists():
            raise CorruptError(f"the compacted catalog {path} was made without the bundle's re-ranker; delete it")
        item_states_NW: npt.NDArray[np.floating] = np.load(path / files.ITEM_STATES, mmap_mode="r")
        return item_states_NW

    def resume(self, journal: CatalogJournal) -> BaseSegment | None:
        """Return the newest one that belongs to a journal, for a process that starts; None if there is none."""
        sequence = self.newest()
        if sequence is None:
            return None
        try:
            return self.open(sequence) if self.belongs(sequence, journal.find(sequence)) else None
        except RfError:
            return None

    def belongs(self, sequence: int, found: Entry | None) -> bool:
        """Return whether one was made from a journal, by what the journal has under its last number.

        A registry may be another one by now, or restored to what it was earlier: then the numbers stand for other changes.

        Raises:
            RfError: it is damaged, or was deleted meanwhile.
        """
        return found is not None and Anchor.of(read_manifest(self.path(sequence))) == Anchor.at(found)

    def bundle_base(self) -> BaseSegment:
        """Return the bundle's items as they were built, their features mapped from a file that all processes share."""
        schema = ItemSchema.of(self._bundle.encoder)
        path = self.directory / ITEMS
        if not path.exists():
            with (
                pq.ParquetFile(self._bundle.path / files.ITEMS) as source,
                new_file(path, durable=False) as part,
                pa.ipc.new_file(str(part), schema.arrow) as sink,
            ):
                for batch in source.iter_batches():
                    sink.write_table(schema.cast(pa.Table.from_batches([batch])))
        mapped = pa.memory_map(str(path))  # read later, perhaps when the file is gone
        return BaseSegment.of(self._bundle, lambda: pa.ipc.open_file(mapped).read_all())

    def remove_before(self, sequence: int) -> None:
        """Delete older ones; processes that have mapped their files keep them."""
        for other in self._sequences():
            if other < sequence:
                self.remove(other)

    def remove(self, sequence: int) -> None:
        """Delete one."""
        rmtree(self.path(sequence), ignore_errors=True)

    def _sequences(self) -> list[int]:
        return [int(path.name) for path in self.directory.iterdir() if path.name.isdecimal() and path.is_dir()]

    @contextmanager
    def building(self) -> Iterator[Path | None]:
        """Yield a directory for a builder's input, or None if another process of this machine is building."""
        with claimed(self.directory / _LOCK) as mine:
            if not mine:
                yield None
                return
            with scratch(self.directory, _INPUT) as given:
                yield given
