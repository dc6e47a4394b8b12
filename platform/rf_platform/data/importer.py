"""Import a source into a workspace: find, load, check, write, and only then replace the earlier tables."""

import os
import shutil
from collections.abc import Sequence
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

import duckdb
import pyarrow.parquet as pq

from rf_platform.cli.console import Tracker, track
from rf_platform.data.adapters import Request, read_source
from rf_platform.data.bad_rows import BadRows
from rf_platform.data.event_log.reading import EventWindow
from rf_platform.data.infer import LoadedTable, settle
from rf_platform.data.meaning_hints import as_sentence, find_hints
from rf_platform.data.raw import load_file
from rf_platform.data.replacing import replacing
from rf_platform.data.report import FileCounts, ImportReport, load_report
from rf_platform.data.specs import TABLES, EventTime, Kind, SourceSpec, TableSpec
from rf_platform.data.stage import EVENT_TIME, shown_time, stage, staged
from rf_platform.data.verdict import changed_ids, count_files, implausible, refuse, swallowed, undescribed
from rf_platform.data.write import QUARANTINE, sha256, write_bare_items, write_quarantine, write_table
from rf_platform.errors import DataError, NotFoundError, UsageError
from rf_platform.failures import translated
from rf_platform.sql import identifier, pattern_literal
from rf_platform.workspace import Workspace

_MEMORY = 2 << 30
_LARGE_INPUT = 256 << 20
_MADE_TIMES = (
    "the source has positions, not times: event times are made, 2000-01-01 plus one hour per position; "
    "hour and weekday are null"
)
_LOAD, _CHECK, _WRITE = 100, 60, 40  # progress steps of a table: relative costs


class OnError(StrEnum):
    """Policy for bad rows: fail the import, or quarantine them."""

    FAIL = "fail"
    QUARANTINE = "quarantine"


def import_tables(
    request: Request,
    *,
    workspace: Workspace,
    on_error: OnError = OnError.FAIL,
    replace: bool = False,
    threads: int | None = None,
    now: datetime | None = None,
) -> ImportReport:
    """Import a source into ``workspace.tables`` and return what was done; on any error the earlier tables stay untouched.

    Args:
        request: source, path and mapping.
        workspace: receives the tables.
        on_error: refuse the whole import for one bad row, or go on without the bad rows and keep them in a file.
        replace: allow to replace the tables of another catalog.
        threads: DuckDB's threads; default: all.
        now: times after it lie in the future; default: the present.

    Raises:
        UsageError, NotFoundError, ConfigError: the request or the mapping is wrong.
        DataError: a file is unusable, or has bad rows and ``on_error`` is ``FAIL``.
        UnavailableError: another import into this workspace is running.
    """
    now = now or datetime.now(UTC)
    with replacing(workspace.tables) as fresh:
        work = fresh / "work"
        work.mkdir()
        source = read_source(request, work)
        before = check_catalog(workspace, source.name, replace)
        connection = _connect(source, work, threads)
        try:
            with (
                translated(f"the import of {source.name}", kind=DataError, place=workspace.root),
                track(f"import {source.name}", _steps(source)) as tracker,
            ):
                bad = BadRows(connection)
                tables = settle(connection, _load(connection, source, bad, tracker))
                for table in tables:
                    stage(connection, table, bad, f"make_timestamptz({int(now.timestamp() * 1_000_000)})")
                    tracker.advance(_CHECK, f"{table.spec.table} checked")
                counts = count_files(connection, tables, bad)
                refuse(counts, bad, any_bad_row=on_error is OnError.FAIL)
                rows = _write(connection, tables, counts, fresh, tracker)
            report = _report(connection, request, source, tables, counts, rows, fresh, before)
        finally:
            connection.close()
            shutil.rmtree(work)
        report.save(fresh)
    return report


def check_catalog(workspace: Workspace, name: str, replace: bool) -> ImportReport | None:
    """Make sure that the tables of another catalog are replaced only if that is asked for.

    Returns:
        The report of the import that is to be replaced, if it was one of the same catalog.

    Raises:
        UsageError: the workspace holds another catalog than ``name``, and it is not to be replaced.
    """
    if replace:
        return None
    try:
        present = load_report(workspace.tables)
    except NotFoundError:
        return None
    if present.name != name:
        raise UsageError(
            f"the workspace {workspace.root} holds the catalog {present.name!r}; put {name!r} into another one "
            f"(rf --home DIR, or RF_HOME), or give --replace to replace its tables"
        )
    return present


def _connect(source: SourceSpec, work: Path, threads: int | None) -> duckdb.DuckDBPyConnection:
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


def _steps(source: SourceSpec) -> int:
    return sum(len(t.files) * _LOAD + _CHECK + _WRITE for t in source.tables)


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


def _load(
    connection: duckdb.DuckDBPyConnection, source: SourceSpec, bad: BadRows, tracker: Tracker
) -> list[LoadedTable]:
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


def _write(
    connection: duckdb.DuckDBPyConnection,
    tables: Sequence[LoadedTable],
    counts: Sequence[FileCounts],
    fresh: Path,
    tracker: Tracker,
) -> dict[str, int]:
    """Write all tables and the quarantine file; return the rows of each table."""
    rows: dict[str, int] = {}
    for table in tables:
        rows[table.spec.table] = write_table(connection, table.spec, fresh)
        tracker.advance(_WRITE, f"{table.spec.table} written")
    if "items" not in rows:
        rows["items"] = write_bare_items(connection, fresh)
    if any(c.quarantined for c in counts):
        write_quarantine(connection, [c.file for c in counts], fresh)
    return {name: rows[name] for name in TABLES if name in rows}


def _report(
    connection: duckdb.DuckDBPyConnection,
    request: Request,
    source: SourceSpec,
    tables: Sequence[LoadedTable],
    counts: tuple[FileCounts, ...],
    rows: dict[str, int],
    fresh: Path,
    before: ImportReport | None,
) -> ImportReport:
    first, last, users = connection.execute(
        f"SELECT {shown_time(f'min({EVENT_TIME})')}, {shown_time(f'max({EVENT_TIME})')}, count(DISTINCT user_id) "
        f"FROM {identifier(staged('interactions'))}"
    ).fetchall()[0]
    written = [f"{name}.parquet" for name in rows]
    refused = sum(c.quarantined for c in counts)
    bounds = {
        f.name: (f.minimum, f.maximum)
        for t in tables
        if t.spec.table == "interactions"
        for f in t.spec.fields
        if (f.minimum, f.maximum) != (None, None)
    }
    # A catalog with definitions of its own has said what its events mean.
    log = f"read_parquet({pattern_literal(fresh / 'interactions.parquet')})"
    hints = [] if source.feature_repo else find_hints(connection, log, bounds)
    return ImportReport(
        name=source.name,
        source=request.source,
        path=str((request.path or source.tables[0].files[0].path.parent).absolute()),
        feature_repo=source.feature_repo,
        time=source.time.value,
        counts={**rows, "active_users": users, "quarantined": refused},
        inputs=counts,
        files={name: sha256(fresh / name) for name in (*written, *([QUARANTINE] if refused else []))},
        columns={name: column_types(fresh / f"{name}.parquet") for name in rows},
        settled=_settled(source.tables, [t.spec for t in tables]),
        display=source.display,
        first_event=first,
        last_event=last,
        warnings=(
            *swallowed(tables),
            *changed_ids(connection, tables, before),
            *undescribed(connection, tables),
            *implausible(connection, EventWindow().since),
            *([as_sentence(hints)] if hints else []),
        ),
        bounds=bounds,
        notes=(_MADE_TIMES,) if source.time is EventTime.POSITION else (),
        imported_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def column_types(path: Path) -> dict[str, str]:
    """Return the Arrow type of every column of a written table."""
    return {f.name: str(f.type).replace("element: ", "") for f in pq.read_schema(path)}


def _settled(declared: Sequence[TableSpec], settled: Sequence[TableSpec]) -> dict[str, str]:
    """Return what was found out: kind, or the form of a time."""
    found: dict[str, str] = {}
    for before, after in zip(declared, settled, strict=True):
        for asked, got in zip(before.fields, after.fields, strict=True):
            if asked.kind is Kind.TIME and asked.time_format is not got.time_format:
                found[f"{after.table}.{got.name}"] = got.time_format.value
            elif asked.kind is Kind.AUTO:
                found[f"{after.table}.{got.name}"] = got.kind.value
    return found
