"""Import a source into a workspace: find, load, check, write, and only then replace the earlier tables."""

import shutil
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path

import duckdb
import pyarrow.parquet as pq

from rf_platform.cli.console import Tracker, track
from rf_platform.data.adapters import Request, read_source
from rf_platform.data.bad_rows import BadRows
from rf_platform.data.doubtful_ids import stand_ins
from rf_platform.data.fallback import described_fallback
from rf_platform.data.history_only import not_recommendable, with_history_only
from rf_platform.data.infer import LoadedTable, settle
from rf_platform.data.loading import CHECK, WRITE, load_tables, open_scratch, steps
from rf_platform.data.meaning_hints import as_sentence, find_hints
from rf_platform.data.parts import join_parts
from rf_platform.data.replacing import replacing
from rf_platform.data.report import FileCounts, ImportReport, load_report
from rf_platform.data.specs import TABLES, EventTime, Field, Kind, SourceSpec, TableSpec
from rf_platform.data.stage import EVENT_TIME, shown_time, stage, staged
from rf_platform.data.verdict import (
    changed_ids,
    count_files,
    implausible,
    misnamed_types,
    refuse,
    repeated_hours,
    swallowed,
    undescribed,
)
from rf_platform.data.write import QUARANTINE, sha256, write_bare_items, write_quarantine, write_table
from rf_platform.errors import DataError, NotFoundError, UsageError
from rf_platform.failures import translated
from rf_platform.forget import leave_out_forgotten
from rf_platform.settings import get_settings
from rf_platform.sql import identifier, pattern_literal
from rf_platform.workspace import Workspace

_MOST_TYPES = 200
_MADE_TIMES = (
    "the source has positions, not times: event times are made, 2000-01-01 plus one hour per position; "
    "hour and weekday are null"
)


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
        now: times after it by more than ``RF_EVENTS_AHEAD_SECONDS`` lie in the future; default: the present.

    Raises:
        UsageError, NotFoundError, ConfigError: the request or the mapping is wrong.
        DataError: a file is unusable, or has bad rows and ``on_error`` is ``FAIL``.
        UnavailableError: another import into this workspace is running.
    """
    latest = (now or datetime.now(UTC)) + timedelta(seconds=get_settings().events_ahead_seconds)
    with replacing(workspace.tables) as fresh:
        work = fresh / "work"
        work.mkdir()
        source = read_source(request, work)
        before = check_catalog(workspace, source.name, replace)
        connection = open_scratch(source, work, threads)
        try:
            with (
                translated(f"the import of {source.name}", kind=DataError, place=workspace.root),
                track(f"import {source.name}", steps(source)) as tracker,
            ):
                bad = BadRows(connection)
                tables = settle(connection, load_tables(connection, source, bad, tracker))
                declared = tables
                notes = described_fallback(connection, tables)
                for table in tables:
                    stage(connection, table, bad, f"make_timestamptz({int(latest.timestamp() * 1_000_000)})")
                    tracker.advance(CHECK, f"{table.spec.table} checked")
                counts = count_files(connection, tables, bad)
                refuse(counts, bad, any_bad_row=on_error is OnError.FAIL)
                tables, joined = join_parts(connection, tables)
                if source.history_only:
                    tables = with_history_only(connection, tables)
                rows = _write(connection, tables, counts, fresh, tracker)
                leave_out_forgotten(workspace, fresh)
            report = _report(connection, request, source, declared, tables, counts, rows, fresh, before, joined, notes)
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
        tracker.advance(WRITE, f"{table.spec.table} written")
    if "items" not in rows:
        rows["items"] = write_bare_items(connection, fresh)
    if any(c.quarantined for c in counts):
        write_quarantine(connection, [c.file for c in counts], fresh)
    return {name: rows[name] for name in TABLES if name in rows}


def _report(
    connection: duckdb.DuckDBPyConnection,
    request: Request,
    source: SourceSpec,
    settled: Sequence[LoadedTable],
    tables: Sequence[LoadedTable],
    counts: tuple[FileCounts, ...],
    rows: dict[str, int],
    fresh: Path,
    before: ImportReport | None,
    joined: Sequence[str],
    notes: Sequence[str],
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
        settled=_settled(source.tables, [t.spec for t in settled]),
        writing=_writing(tables),
        display=source.display,
        first_event=first,
        last_event=last,
        warnings=(
            *swallowed(tables),
            *joined,
            *changed_ids(connection, tables, before),
            *undescribed(connection, tables, history_only=source.history_only),
            *stand_ins(connection, staged("interactions")),
            *repeated_hours(connection, tables),
            *implausible(connection, get_settings().events_since),
            *([as_sentence(hints)] if hints else []),
            *misnamed_types(connection, source, log),
        ),
        event_types=_event_types(connection, log),
        renamed_types=dict(source.renamed_types),
        event_weights=dict(source.event_weights) if isinstance(source.event_weights, Mapping) else source.event_weights,
        bounds=bounds,
        notes=(
            *((_MADE_TIMES,) if source.time is EventTime.POSITION else ()),
            *notes,
            *not_recommendable(connection, tables),
        ),
        imported_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _writing(tables: Sequence[LoadedTable]) -> dict[str, dict[str, str]]:
    """Return how columns are written as text, where more than one way is usual."""
    return {
        f"{table.spec.table}.{field.name}": tags
        for table in tables
        for field in table.spec.fields
        if field.name in table.spec.outputs and field.id_of is None and (tags := used_tags(field))
    }


def _event_types(connection: duckdb.DuckDBPyConnection, log: str) -> tuple[str, ...]:
    rows = connection.execute(
        f"SELECT event_type FROM {log} GROUP BY event_type ORDER BY count(*) DESC, event_type LIMIT {_MOST_TYPES + 1}"
    ).fetchall()
    return tuple(row[0] for row in rows) if len(rows) <= _MOST_TYPES else ()


def used_tags(field: Field) -> dict[str, str]:
    """Return the tags of a field's writing that matter to its kind."""
    matter = {
        Kind.TIME: ("timezone",),
        Kind.FLOAT: ("decimal",),
        Kind.FLOATS: ("decimal", "separator"),
        Kind.INTS: ("separator",),
        Kind.STRINGS: ("separator",),
    }.get(field.kind, ())
    return {name: value for name, value in field.writing.tags().items() if name in matter}


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
