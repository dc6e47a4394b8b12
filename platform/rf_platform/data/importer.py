"""Import a source into a workspace: find, load, check, write, and only then replace the earlier tables."""

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

import duckdb
import pyarrow.parquet as pq

from rf_platform.cli.console import Tracker, track
from rf_platform.data.adapters import Request, read_source
from rf_platform.data.bad_rows import BadRows
from rf_platform.data.infer import LoadedTable, settle
from rf_platform.data.publish import replacing
from rf_platform.data.quoting import identifier, literal
from rf_platform.data.raw import load_file
from rf_platform.data.report import FileCounts, ImportReport, load_report
from rf_platform.data.specs import TABLES, EventTime, Kind, SourceSpec, TableSpec
from rf_platform.data.stage import EVENT_TIME, stage, staged
from rf_platform.data.write import QUARANTINE, sha256, write_bare_items, write_quarantine, write_table
from rf_platform.errors import CorruptError, DataError, NotFoundError, UsageError
from rf_platform.workspace import Workspace

_MEMORY = 2 << 30
_LOAD, _CHECK, _WRITE = 100, 60, 40  # progress steps of a table: relative costs


class OnError(StrEnum):
    """What becomes of an import with bad rows."""

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
        workspace: whose tables are written.
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
        _check_catalog(workspace, source, replace)
        connection = _connect(work, threads)
        try:
            run = _Import(connection, source, request, on_error, now, fresh)
            with track(f"import {source.name}", run.steps) as tracker:
                report = run.execute(tracker)
        finally:
            connection.close()
            shutil.rmtree(work)
        report.save(fresh)
    return report


def _check_catalog(workspace: Workspace, source: SourceSpec, replace: bool) -> None:
    if replace:
        return
    try:
        present = load_report(workspace.tables).name
    except NotFoundError:
        return
    if present != source.name:
        raise UsageError(
            f"the workspace {workspace.root} holds the catalog {present!r}; import {source.name!r} into another one "
            f"(rf --home DIR, or RF_HOME), or give --replace to replace its tables"
        )


def _connect(work: Path, threads: int | None) -> duckdb.DuckDBPyConnection:
    """Open a database on disk, so that tables larger than memory can be staged and sorted."""
    memory = min(_MEMORY, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2)
    return duckdb.connect(
        str(work / "stage.duckdb"),
        config={
            "memory_limit": f"{memory >> 20}MiB",
            "temp_directory": str(work / "spill"),
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
            "TimeZone": "UTC",
            **({"threads": threads} if threads else {}),
        },
    )


@dataclass
class _Import:
    """One run over a source."""

    connection: duckdb.DuckDBPyConnection
    source: SourceSpec
    request: Request
    on_error: OnError
    now: datetime
    fresh: Path
    bad: BadRows = field(init=False)

    def __post_init__(self) -> None:
        self.bad = BadRows(self.connection)

    @property
    def steps(self) -> int:
        """Progress steps of the whole run."""
        return sum(len(t.files) * _LOAD + _CHECK + _WRITE for t in self.source.tables)

    def execute(self, tracker: Tracker) -> ImportReport:
        """Load and check everything, then write it."""
        moment = f"make_timestamptz({int(self.now.timestamp() * 1_000_000)})"
        tables = settle(self.connection, self._load(tracker))
        for table in tables:
            stage(self.connection, table, self.bad, moment)
            tracker.advance(_CHECK, f"{table.spec.table} checked")
        counts = self._counts(tables)
        if self.on_error is OnError.FAIL:
            self._refuse_bad_rows(counts)
        for table in TABLES:
            if (kept := [c.kept for c in counts if c.table == table]) and not sum(kept):
                raise DataError(f"no good rows are left in {', '.join(c.file for c in counts if c.table == table)}")
        return self._write(tables, counts, tracker)

    def _load(self, tracker: Tracker) -> list[LoadedTable]:
        loaded: list[LoadedTable] = []
        number = 0
        for table in self.source.tables:
            raws = []
            for file in table.files:
                progress = _FileProgress(tracker, file.path.stat().st_size, file.name)
                raws.append(load_file(self.connection, table, file, number, self.bad, progress.consumed))
                progress.finish()
                number += 1
            loaded.append(LoadedTable(table, tuple(raws)))
        return loaded

    def _counts(self, tables: Sequence[LoadedTable]) -> tuple[FileCounts, ...]:
        refused = self.bad.counts()
        found = []
        for table in tables:
            kept = dict(
                self.connection.execute(
                    f"SELECT __file, count(*) FROM {identifier(staged(table.spec.table))} GROUP BY __file"
                ).fetchall()
            )
            for raw in table.files:
                reasons = refused.get(raw.number, {})
                counts = FileCounts(
                    file=raw.file.name,
                    table=table.spec.table,
                    read=raw.rows,
                    kept=kept.get(raw.number, 0),
                    quarantined=sum(reasons.values()),
                    reasons=reasons,
                    sha256=sha256(raw.file.path),
                )
                assert counts.read == counts.kept + counts.quarantined, counts
                found.append(counts)
        return tuple(found)

    def _refuse_bad_rows(self, counts: Sequence[FileCounts]) -> None:
        first = self.bad.first()
        if first is None:
            return
        reasons: dict[str, int] = {}
        for file in counts:
            for reason, number in file.reasons.items():
                reasons[reason] = reasons.get(reason, 0) + number
        column = f", column {first.column!r}" if first.column else ""
        value = "" if first.value is None else f" {first.value[:100]!r}"
        detail = f" ({first.detail})" if first.detail else ""
        total, read = sum(reasons.values()), sum(f.read for f in counts)
        listed = ", ".join(f"{n:,} {reason}" for reason, n in sorted(reasons.items(), key=lambda r: -r[1]))
        raise DataError(
            f"{counts[first.file].file}, row {first.row}{column}: {first.reason}{value}{detail}; "
            f"{total:,} of {read:,} rows are bad: {listed}. Nothing was imported: mend the input, or go on without these rows "
            f"with --on-error=quarantine"
        )

    def _write(
        self, tables: Sequence[LoadedTable], counts: tuple[FileCounts, ...], tracker: Tracker
    ) -> ImportReport:
        rows: dict[str, int] = {}
        for table in tables:
            name = table.spec.table
            rows[name] = write_table(self.connection, table.spec, self.fresh)
            tracker.advance(_WRITE, f"{name} written")
        if "items" not in rows:
            rows["items"] = write_bare_items(self.connection, self.fresh)
        log = identifier(staged("interactions"))
        first, last, users = self.connection.execute(
            f"SELECT min({EVENT_TIME}), max({EVENT_TIME}), count(DISTINCT user_id) FROM {log}"
        ).fetchall()[0]
        refused = sum(c.quarantined for c in counts)
        if refused:
            write_quarantine(self.connection, [c.file for c in counts], self.fresh)
        written = [f"{name}.parquet" for name in TABLES if name in rows]
        position = self.source.time is EventTime.POSITION
        made = "the source has positions, not times: event times are 2000-01-01 plus one hour per position, hour and weekday null"
        return ImportReport(
            name=self.source.name,
            source=self.request.source,
            path=str((self.request.path or self.source.tables[0].files[0].path.parent).absolute()),
            feature_repo=self.source.feature_repo,
            time=self.source.time.value,
            counts={**{name: rows[name] for name in TABLES if name in rows}, "active_users": users, "quarantined": refused},
            inputs=counts,
            files={f: sha256(self.fresh / f) for f in (*written, *([QUARANTINE] if refused else []))},
            columns={f.removesuffix(".parquet"): _columns(self.fresh / f) for f in written},
            settled=_settled(self.source.tables, [t.spec for t in tables]),
            display=self.source.display,
            first_event=_iso(first),
            last_event=_iso(last),
            warnings=tuple(self._warnings(tables)),
            notes=(made,) if position else (),
            imported_at=datetime.now(UTC).isoformat(timespec="seconds"),
        )

    def _warnings(self, tables: Sequence[LoadedTable]) -> list[str]:
        log, found = identifier(staged("interactions")), []
        for side in ("item", "user"):
            if not any(t.spec.table == f"{side}s" for t in tables):
                continue
            rows, ids, example = self.connection.execute(
                f"SELECT count(*), count(DISTINCT {side}_id), min({side}_id) FROM {log} "
                f"WHERE {side}_id NOT IN (SELECT {side}_id FROM {identifier(staged(_plural(side)))})"
            ).fetchall()[0]
            if rows:
                found.append(
                    f"{rows:,} interactions name {ids:,} {side}s that the {side}s table does not describe, for example {example!r}"
                )
        return found
