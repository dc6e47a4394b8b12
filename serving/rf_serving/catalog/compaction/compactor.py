"""Compaction: the living rows become a new base with an index of its own, while everything goes on."""

import os
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from time import monotonic, perf_counter
from typing import Protocol

import numpy as np
import pyarrow as pa
import structlog

from rf_platform.errors import RfError
from rf_platform.interrupts import LIFELINE
from rf_platform.registry.journal import CatalogJournal
from rf_serving.bundle.served import ServedBundle
from rf_serving.catalog.base_segment import BaseSegment
from rf_serving.catalog.compaction import builder
from rf_serving.catalog.compaction.builder import Anchor, Job
from rf_serving.catalog.compaction.compacted import CompactedCatalogs
from rf_serving.catalog.snapshot import CatalogSnapshot

_PROCESS = "rf_serving.catalog.compaction.builder"
_RETRY_SECONDS = 60.0


class Compactable(Protocol):
    """A catalog with a base segment that can be replaced."""

    @property
    def bundle(self) -> ServedBundle:
        """The bundle that it belongs to."""

    @property
    def snapshot(self) -> CatalogSnapshot:
        """The catalog as it is now."""

    def swap_base(self, base: BaseSegment) -> None:
        """Swap in a compacted base, and carry later changes over."""


@dataclass(frozen=True, kw_only=True)
class Compaction:
    """Thresholds at which a catalog is compacted."""

    rows: int = 10_000
    """Rows behind the base, which every search scans."""
    share: float = 0.005
    """The same as a share of the base, if that is more: a large index takes long to build."""
    deleted_ratio: float = 0.1
    """Share of the base that is dead; only beside ``rows`` / 10 dead ones."""
    niceness: int = 19
    """Of the process that builds: 19 takes idle CPU time only, 0 its full share."""

    def due(self, snapshot: CatalogSnapshot) -> bool:
        """Whether it is time; an empty catalog has nothing to index."""
        base = snapshot.base.rows
        delta, dead = snapshot.rows - base, base - snapshot.listed_base
        crowded = delta >= max(self.rows, self.share * base)
        return snapshot.alive > 0 and (crowded or (dead >= self.deleted_ratio * base and dead >= self.rows / 10))


class Compactor:
    """Has compacted catalogs built by a child process, one at a time on a machine, and adopts those that others built."""

    def __init__(self, store: CompactedCatalogs, journal: CatalogJournal, compaction: Compaction) -> None:
        self._store, self._journal, self._when = store, journal, compaction
        self._log = structlog.get_logger("rf_serving")
        self._child: _Child | None = None
        self._not_before = 0.0

    def step(self, catalog: Compactable) -> None:
        """Do what is due; returns soon, call it again and again.

        Raises:
            UnavailableError: the journal cannot be read.
        """
        snapshot = catalog.snapshot
        if self._child is not None:
            if (code := self._child.poll()) is None:
                return
            if code:
                self._log.error("compaction failed", code=code, output=self._child.output[-2000:])
                self._not_before = monotonic() + _RETRY_SECONDS
            self._child.close()
            self._child = None
        newest = self._store.newest(snapshot.base.sequence)
        if newest is not None and newest <= snapshot.sequence:
            self._adopt(catalog, newest)
        elif newest is not None and newest > self._journal.last():
            self._remove_foreign(newest)
        elif (
            snapshot.sequence > snapshot.base.sequence and self._when.due(snapshot) and monotonic() >= self._not_before
        ):
            try:
                self._child = self._start(snapshot)
            except OSError as error:
                self._log.error("compaction failed", error=str(error), remedy="make room in the workspace's cache")
                self._not_before = monotonic() + _RETRY_SECONDS

    def close(self) -> None:
        """End the child."""
        if self._child is not None:
            self._child.close()
            self._child = None

    def _adopt(self, catalog: Compactable, sequence: int) -> None:
        begin = perf_counter()
        last = self._journal.find(sequence)
        try:
            if not self._store.belongs(sequence, last):
                self._remove_foreign(sequence)
                return
            base = self._store.open(sequence)
        except RfError as error:  # not worth more than building it again
            self._log.warning("compacted catalog removed", error=str(error))
            self._store.remove(sequence)
            return
        catalog.swap_base(base)
        self._store.remove_before(sequence)
        snapshot = catalog.snapshot
        self._log.info(
            "catalog compacted",
            bundle=catalog.bundle.name,
            sequence=sequence,
            items=snapshot.base.rows,
            carried_over=snapshot.rows - snapshot.base.rows,
            seconds=round(perf_counter() - begin, 3),
        )

    def _remove_foreign(self, sequence: int) -> None:
        """Remove a catalog of another journal: this one would never be compacted, or take its items when it gets that far."""
        self._log.warning("compacted catalog removed", error=f"change {sequence} is another one in this registry")
        self._store.remove(sequence)

    def _start(self, snapshot: CatalogSnapshot) -> "_Child | None":
        with ExitStack() as ending:
            given = ending.enter_context(self._store.building())
            # The process that held the lock until now may have finished since we looked.
            if given is None or self._store.newest(snapshot.base.sequence) is not None:
                return None
            entry = self._journal.find(snapshot.sequence)
            write_input(snapshot, given)
            index = snapshot.base.index
            Job(
                bundle=str(snapshot.bundle.path),
                base=str(snapshot.base.path),
                target=str(self._store.path(snapshot.sequence)),
                sequence=snapshot.sequence,
                anchor=None if entry is None else asdict(Anchor.at(entry)),
                index_kind=index.kind,
                index_efforts=index.settings.get("efforts"),
                niceness=self._when.niceness,
            ).save(given)
            self._log.info("compaction begins", sequence=snapshot.sequence, rows=snapshot.rows, living=snapshot.alive)
            return _Child(given, ending.pop_all())


class _Child:
    """A builder at work."""

    def __init__(self, given: Path, ending: ExitStack) -> None:
        threads = str(max(1, (os.cpu_count() or 1) // 2))
        self._said, self._ending = given / "output", ending
        with self._said.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", _PROCESS, str(given)],
                stdin=subprocess.PIPE,  # its lifeline
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, "OMP_NUM_THREADS": threads, LIFELINE: "1"},
            )

    @property
    def output(self) -> str:
        """Output of the process."""
        return self._said.read_text(errors="replace")

    def poll(self) -> int | None:
        """Return its exit code, None while it works."""
        return self._process.poll()

    def close(self) -> None:
        """End it if it still works, and remove its input."""
        self._process.kill()
        self._process.wait()
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._ending.close()


def write_input(snapshot: CatalogSnapshot, directory: Path) -> None:
    """Write what a builder needs to know of a snapshot beside the files of its base."""
    base = snapshot.base
    np.save(directory / builder.ALIVE, snapshot.listed[: base.rows])
    rows = base.rows + np.flatnonzero(snapshot.listed[base.rows :])
    np.save(directory / builder.LIVE_VECTORS, snapshot.vectors(rows))
    np.save(directory / builder.LIVE_TOKENS, snapshot.tokens(rows))
    if base.item_states_NW is not None:
        np.save(directory / builder.LIVE_ITEM_STATES, snapshot.item_states(rows))
    np.save(directory / builder.LIVE_SEQUENCES, np.array(snapshot.sequences(rows), np.int64))
    items = base.schema.arrow.empty_table() if snapshot.delta_items is None else snapshot.delta_items
    with pa.ipc.new_file(str(directory / builder.LIVE_ITEMS), base.schema.arrow) as sink:
        sink.write_table(items.take(rows - base.rows))
