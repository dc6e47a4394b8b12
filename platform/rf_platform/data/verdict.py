"""Verdict on the input after all rows are checked: counts, refusal of bad rows, warnings."""

from collections.abc import Mapping, Sequence
from datetime import date

import duckdb

from rf_platform.data.bad_rows import BadRows
from rf_platform.data.convert_time import SERIAL
from rf_platform.data.doubtful_ids import written_otherwise
from rf_platform.data.infer import CANONICAL_WHOLE, LoadedTable
from rf_platform.data.report import FileCounts, ImportReport
from rf_platform.data.specs import TABLES, Field, Kind, SourceSpec, TableName
from rf_platform.data.stage import EVENT_TIME, FILE, INPUT_ORDER, ROW, shown_time, staged
from rf_platform.data.write import sha256
from rf_platform.errors import DataError
from rf_platform.features.event_weights import EventWeights, unknown_type, unknown_weighted
from rf_platform.features.meanings import event_types
from rf_platform.sql import identifier, literal
from rf_platform.time_units import mistaken_unit

_SHOWN = 80


def count_files(
    connection: duckdb.DuckDBPyConnection, tables: Sequence[LoadedTable], bad: BadRows
) -> tuple[FileCounts, ...]:
    """Count the rows of every input file, in the order of file numbers."""
    refused = bad.counts()
    found = []
    for table in tables:
        name = identifier(table.spec.staged)
        kept = dict(connection.execute(f"SELECT {FILE}, count(*) FROM {name} GROUP BY {FILE}").fetchall())
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


def refuse(counts: Sequence[FileCounts], bad: BadRows, *, any_bad_row: bool) -> None:
    """Refuse the import if a table has no good row, or, if ``any_bad_row``, for a single bad one.

    Raises:
        DataError: names file, row, column and value of the first bad row, and how many rows are bad for which reason.
    """
    first = bad.first()
    if first is None:
        return
    empty = next((t for t in TABLES if not sum([c.kept for c in counts if c.table == t] or [1])), None)
    if not any_bad_row and empty is None:
        return
    reasons: dict[str, int] = {}
    for file in counts:
        for reason, number in file.reasons.items():
            reasons[reason] = reasons.get(reason, 0) + number
    column = f", column {first.column}" if first.column else ""
    value = "" if first.value is None else f" {first.value[:_SHOWN]!r}{'...' if len(first.value) > _SHOWN else ''}"
    detail = f" ({first.detail})" if first.detail else ""
    listed = ", ".join(f"{n:,} {reason}" for reason, n in sorted(reasons.items(), key=lambda r: -r[1]))
    remedy = ", or go on without these rows with --on-error=quarantine"
    if empty:
        remedy = f"; no good row is left for the table {empty}"
    raise DataError(
        f"{counts[first.file].file}, row {first.row}{column}: {first.reason}{value}{detail}; "
        f"{sum(reasons.values()):,} of {sum(f.read for f in counts):,} rows are bad: {listed}. "
        f"Nothing was imported: mend the input{remedy}"
    )


def swallowed(tables: Sequence[LoadedTable]) -> tuple[str, ...]:
    """Return a warning per file with quoted fields that hold lines like whole rows."""
    return tuple(
        f"{raw.file.name}: in {len(raw.swallowing):,} rows, the first is row {raw.swallowing[0]}, a quoted field holds lines "
        f"that look like rows of their own; if quotes are ordinary characters here, say `csv: {{quote: null}}`"
        for table in tables
        for raw in table.files
        if raw.swallowing
    )


def undescribed(
    connection: duckdb.DuckDBPyConnection, tables: Sequence[LoadedTable], *, history_only: bool
) -> tuple[str, ...]:
    """Return a warning per side with interactions of ids that the attribute table lacks; ``history_only``: items among them."""
    present = {t.spec.table for t in tables}
    found = []
    for side, table in (("item", TABLES[1]), ("user", TABLES[2])):
        if table not in present:
            continue
        described = _described(table, history_only)
        lacking = f"{identifier(staged('interactions'))} ANTI JOIN ({described}) USING ({side}_id)"
        rows, ids, example = connection.execute(
            f"SELECT count(*), count(DISTINCT {side}_id), min({side}_id) FROM {lacking}"
        ).fetchall()[0]
        if rows:
            name = f"CAST({side}_id AS VARCHAR) AS id"
            otherwise = written_otherwise(
                connection, f"SELECT DISTINCT {name} FROM {lacking}", f"SELECT {name} FROM ({described})"
            )
            found.append(
                f"{rows:,} interactions name {ids:,} {side}s that the {table} table lacks, for example {example!r}{otherwise}"
                + (_HISTORY_ONLY if history_only and side == "item" else "")
            )
    return tuple(found)


_HISTORY_ONLY = (
    "; they stay in histories and are not recommended, where the definitions have the field `recommendable` "
    "(`undescribed: offer` in the mapping offers them)"
)


def _described(table: TableName, history_only: bool) -> str:
    """Return the query of the rows that the user's own table has."""
    own = f" WHERE {INPUT_ORDER} IS NOT NULL" if history_only and table == "items" else ""
    return f"SELECT * FROM {identifier(staged(table))}{own}"


def repeated_hours(connection: duckdb.DuckDBPyConnection, tables: Sequence[LoadedTable]) -> tuple[str, ...]:
    """Return a warning if times of events without a zone may lie in an hour that clocks showed twice."""
    log = next(t.spec for t in tables if t.spec.table == "interactions")
    zone = next(f.writing.timezone for f in log.fields if f.name == EVENT_TIME)
    if zone == "UTC":
        return ()
    local = f"timezone({literal(zone)}, {EVENT_TIME})"
    hour_later = f"timezone({literal(zone)}, {EVENT_TIME} + INTERVAL 1 HOUR)"
    count, first = connection.execute(
        f"SELECT count(*), {shown_time(f'min({EVENT_TIME})')} FROM {identifier(log.staged)} WHERE {local} = {hour_later}"
    ).fetchall()[0]
    if not count:
        return ()
    return (
        f"{count:,} events lie in an hour that the clocks of {zone} showed twice, the first at {first}: where times have no "
        f"offset, the first of the two is meant",
    )


def implausible(connection: duckdb.DuckDBPyConnection, since: date) -> tuple[str, ...]:
    """Return a warning if interactions happened before the first day of plausible times."""
    times = identifier(staged("interactions"))
    count, first, number = connection.execute(
        f"SELECT count(*), {shown_time(f'min({EVENT_TIME})')}, epoch_us(min({EVENT_TIME})) "
        f"FROM {times} WHERE {EVENT_TIME} < TIMESTAMPTZ '{since} 00:00:00+00'"
    ).fetchall()[0]
    if not count:
        return ()
    unit = mistaken_unit(number)
    meant = ": is the format of their times right?"
    if SERIAL[0] <= number / 1e6 <= SERIAL[1]:
        meant = f"; {number / 1e6:g} may be a day as spreadsheets count them: is `format: excel` meant?"
    elif unit is not None:
        meant = f"; {unit.partition(', and')[0]}: is that their `format`?"
    return (f"{count:,} interactions happened before {since}, the first at {first}{meant}",)


def misnamed_types(connection: duckdb.DuckDBPyConnection, source: SourceSpec, log: str) -> tuple[str, ...]:
    """Return a warning for every type that a mapping renames or weighs and no event has, and one for those without a weight.

    Args:
        connection: has the checked rows of the log as they came.
        source: what the mapping says.
        log: the written log, as it stands behind FROM.
    """
    came = event_types(connection, identifier(staged("interactions"))) if source.renamed_types else []
    found = [unknown_type(old, came, "'rename'") for old in source.renamed_types if old not in came]
    if isinstance(source.event_weights, Mapping):
        types, weighed = event_types(connection, log), source.event_weights
        found += unknown_weighted(EventWeights.of(weighed, "weights"), types, "'weights'")
        if rest := [name for name in types if name not in weighed]:
            found.append(f"'weights' has none for the event types {', '.join(map(repr, rest[:20]))}; they weigh 1")
    return tuple(found)


def changed_ids(
    connection: duckdb.DuckDBPyConnection, tables: Sequence[LoadedTable], before: ImportReport | None
) -> tuple[str, ...]:
    """Return a warning per side with ids of another type than in the tables of the import before."""
    found = []
    for side in ("user", "item"):
        ids = [(t, f) for t in tables for f in t.spec.fields if f.id_of == side]
        was = before.columns["interactions"].get(f"{side}_id") if before else None
        kind = ids[0][1].kind
        if was is None or was == {Kind.INT: "int64", Kind.STRING: "string"}[kind]:
            continue
        example = (
            next(filter(None, (_first_text_id(connection, t, f) for t, f in ids)), "") if kind is Kind.STRING else ""
        )
        old, new, value_type = ("whole numbers", "text", "STRING")
        mistake = "if that is a mistake, declare `type: int` for the column; else "
        if kind is Kind.INT:
            old, new, value_type, mistake = "text", "whole numbers", "INT64", ""
        found.append(
            f"{side} ids were {old} in the import before and are {new} now{example}: what was made from the earlier tables does "
            f"not fit them; {mistake}set the value_type of entity '{side}' to {value_type}, and the dtype of fields that keep "
            f"these ids, then apply, materialise, build and train again"
        )
    return tuple(found)


def _first_text_id(connection: duckdb.DuckDBPyConnection, table: LoadedTable, field: Field) -> str | None:
    row = connection.execute(
        f"SELECT {field.name}, {FILE}, {ROW} FROM {identifier(table.spec.staged)} "
        f"WHERE NOT regexp_full_match({field.name}, '{CANONICAL_WHOLE}') OR TRY_CAST({field.name} AS BIGINT) IS NULL "
        f"ORDER BY {INPUT_ORDER} LIMIT 1"
    ).fetchone()
    if row is None:
        return None
    file = next(raw.file.name for raw in table.files if raw.number == row[1])
    return f" (the first that is no whole number: {row[0]!r} in {file}, row {row[2]})"
