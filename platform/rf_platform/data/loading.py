"""The files of a source in a scratch database, as they are written: what an import checks and converts afterwards."""

import os
from pathlib import Path

import duckdb

from rf_platform.cli.console import Tracker
from rf_platform.data.bad_rows import BadRows
from rf_platform.data.infer import LoadedTable
from rf_platform.data.raw import load_file
from rf_platform.data.specs import SourceSpec

_MEMORY = 2 << 30
_LARGE_INPUT = 256 << 20
_LOAD, CHECK, WRITE = 100, 60, 40
"""Progress steps of a table: relative costs."""


def open_scratch(source: SourceSpec, work: Path, threads: int | None) -> duckdb.DuckDBPyConnection:
    """Open a scratch database: in memory, which is twice as fast, or for a large input on disk, which keeps memory bounded."""
    size = sum(f.path.stat().st_size for t in source.tables for f in t.files)
    memory = min(_MEMORY, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2)
    connection = duckdb.connect(
        ":memory:" if size < _LARGE_INPUT else str(work / "scratch.duckdb"),
        config={
            "memory_limit": f"{memory >> 20}MiB",
            "temp_directory": str(work / "spill"),
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
            **({"threads": threads} if threads else {}),
        },
    )
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute("PRAGMA disable_checkpoint_on_shutdown")  # a scratch file is deleted then
    return connection


def steps(source: SourceSpec) -> int:
    """Return the progress steps of a source."""
    return sum(len(t.files) * _LOAD + CHECK + WRITE for t in source.tables)


class _FileProgress:
    """Turns bytes read of one file into progress steps."""

    def __init__(self, tracker: Tracker, file: Path) -> None:
        self._tracker, self._size = tracker, max(1, file.stat().st_size)
        self._read = self._steps = 0

    def consumed(self, count: int) -> None:
        self._read += count
        self._advance(min(_LOAD, self._read * _LOAD // self._size), "")

    def finish(self, note: str) -> None:
        self._advance(_LOAD, note)

    def _advance(self, to: int, note: str) -> None:
        if to > self._steps:
            self._tracker.advance(to - self._steps, note)
            self._steps = to


def load_tables(
    connection: duckdb.DuckDBPyConnection, source: SourceSpec, bad: BadRows, tracker: Tracker
) -> list[LoadedTable]:
    """Load all files of a source.

    Raises:
        DataError: a file is unusable.
    """
    loaded: list[LoadedTable] = []
    number = 0
    for table in source.tables:
        raws = []
        for file in table.files:
            progress = _FileProgress(tracker, file.path)
            raws.append(load_file(connection, table, file, number, bad, progress.consumed))
            progress.finish(f"{file.name} read")
            number += 1
        loaded.append(LoadedTable(table, tuple(raws)))
    return loaded
