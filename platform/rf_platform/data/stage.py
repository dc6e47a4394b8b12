"""Convert and check a table's rows: good ones into a staged DuckDB table, bad ones into the table of bad rows.

A row is refused once, for the first thing that is wrong with it: field by field in the order of the spec, then what only shows
beside other rows (order, duplicates).
"""

from dataclasses import replace

import duckdb

from rf_platform.data.bad_rows import BadRows, Reason
from rf_platform.data.convert import SQL_TYPES, Check, convert
from rf_platform.data.infer import LoadedTable
from rf_platform.data.raw import RawFile
from rf_platform.data.specs import Kind, TableName, TableSpec
from rf_platform.data.text_stream import shown_bytes_sql
from rf_platform.sql import identifier, literal

EVENT_TIME = "event_timestamp"
# Names of our own in staged tables; no column of a catalog may hold two underscores in a row.
FILE, ROW, INPUT_ORDER = "__file", "__row", "__order"


def staged(table: TableName) -> str:
    """Return the name of a staged table: the spec's fields, and file number, row and position in the input."""
    return f"staged_{table}"


def stage(connection: duckdb.DuckDBPyConnection, table: LoadedTable, bad: BadRows, now: str) -> None:
    """Create the staged table of good rows and record the bad ones.

    Args:
        connection: where the raw relations are.
        table: the table, its fields settled.
        bad: receives the refused rows.
        now: SQL of the moment after which a time lies in the future.
    """
    spec, target = table.spec, identifier(table.spec.staged)
    columns = ", ".join(f"{identifier(f.name)} {SQL_TYPES[f.kind]}" for f in spec.fields)
    connection.execute(f"CREATE TABLE {target} ({FILE} INTEGER, {ROW} BIGINT, {INPUT_ORDER} BIGINT, {columns})")
    offset = 0
    for raw in table.files:
        _stage_file(connection, spec, raw, offset, bad, now)
        offset += raw.rows
    if spec.sorted:
        _refuse_unsorted(connection, table, bad)
    _refuse_duplicates(connection, table, bad)


def _stage_file(
    connection: duckdb.DuckDBPyConnection, spec: TableSpec, raw: RawFile, offset: int, bad: BadRows, now: str
) -> None:
    bases, values, picked = [], [], []
    checks: list[tuple[int, Check]] = []
    for i, field in enumerate(spec.fields):
        written = raw.time_formats.get(field.name, field.time_format)
        conversion = convert(raw, replace(field, time_format=written), f"b{i}", f"v{i}", now)
        bases.append(f"{conversion.base} AS b{i}")
        same = field.kind is Kind.STRING and conversion.value == f"b{i}"  # a text need not be kept twice
        values += [] if same else [f"{conversion.value} AS v{i}"]
        picked.append(f"b{i}" if same else f"v{i}")
        checks += [(i, check) for check in conversion.checks]
    converted, problems = f"converted_{raw.number}", f"problems_{raw.number}"
    # A table of its own, because a check would else compute the value that it looks at once more.
    connection.execute(
        f"CREATE TABLE {converted} AS SELECT {', '.join(['*', *values])} FROM "
        f'(SELECT {raw.row} AS "row", {", ".join(bases)} FROM {identifier(raw.relation)})'
    )
    conditions = " ".join(f"WHEN {check.condition} THEN {n}" for n, (_, check) in enumerate(checks))
    connection.execute(
        f'CREATE TABLE {problems} AS SELECT * FROM (SELECT "row", CASE {conditions} END AS problem FROM {converted}) '
        f"WHERE problem IS NOT NULL"
    )
    names = ", ".join(identifier(f.name) for f in spec.fields)
    connection.execute(
        f"INSERT INTO {identifier(spec.staged)} ({FILE}, {ROW}, {INPUT_ORDER}, {names}) "
        f'SELECT {raw.number}, "row", "row" + {offset}, {", ".join(picked)} FROM {converted} ANTI JOIN {problems} USING ("row")'
    )
    for n, *_ in connection.execute(f"SELECT DISTINCT problem FROM {problems}").fetchall():
        i, check = checks[n]
        rows = f'SELECT "row" FROM {problems} WHERE problem = {n}'
        value = shown_bytes_sql(f"CAST(b{i} AS VARCHAR)")
        bad.add(
            f'SELECT {raw.number} AS file, "row", {literal(spec.fields[i].column)} AS "column", '
            f"{literal(check.reason)} AS reason, {literal(check.detail)} AS detail, {value} AS "
            f'"value", record FROM {converted} JOIN ({_records(raw, rows)}) USING ("row")'
        )
    connection.execute(f"DROP TABLE {converted}; DROP TABLE {problems}")


def _refuse_unsorted(connection: duckdb.DuckDBPyConnection, table: LoadedTable, bad: BadRows) -> None:
    """Refuse rows that are earlier than a good row before them in the same file."""
    latest = (
        f"max({EVENT_TIME}) OVER (PARTITION BY {FILE} ORDER BY {ROW} ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)"
    )
    query = (
        f"SELECT {INPUT_ORDER}, 'earlier than ' || {shown_time('latest')} || ' in a row before' AS detail "
        f"FROM (SELECT *, {latest} AS latest FROM {identifier(table.spec.staged)}) WHERE {EVENT_TIME} < latest"
    )
    _refuse(connection, table, bad, query, EVENT_TIME, Reason.NOT_SORTED)


def _refuse_duplicates(connection: duckdb.DuckDBPyConnection, table: LoadedTable, bad: BadRows) -> None:
    """Refuse rows with the key of an earlier row."""
    name = identifier(table.spec.staged)
    keys = ", ".join(identifier(k) for k in table.spec.keys)
    first = f"CASE WHEN s.{FILE} = t.{FILE} THEN '' ELSE 'another file, ' END || 'row ' || t.{ROW}"
    query = (
        f"SELECT s.{INPUT_ORDER}, 'the same ' || {literal(', '.join(table.spec.keys))} || ' as in ' || {first} AS detail "
        f"FROM {name} AS s JOIN (SELECT {keys}, min({INPUT_ORDER}) AS first FROM {name} GROUP BY {keys} "
        f"HAVING count(*) > 1) AS twice USING ({keys}) JOIN {name} AS t ON t.{INPUT_ORDER} = twice.first "
        f"WHERE s.{INPUT_ORDER} <> twice.first"
    )
    event = table.spec.table == "interactions"
    last_id = next(k for k in reversed(table.spec.keys) if k.endswith("_id"))
    _refuse(connection, table, bad, query, last_id, Reason.DUPLICATE_EVENT if event else Reason.DUPLICATE_KEY)


def _refuse(
    connection: duckdb.DuckDBPyConnection, table: LoadedTable, bad: BadRows, query: str, field: str, reason: Reason
) -> None:
    """Move the staged rows that ``query`` names by input order, with a detail, to the bad ones."""
    connection.execute(f"CREATE TEMP TABLE refused AS {query}")
    name, column = (
        identifier(table.spec.staged),
        next(f for f in table.spec.fields if f.name == field),
    )
    shown = shown_time(f"s.{field}") if column.kind is Kind.TIME else f"CAST(s.{identifier(field)} AS VARCHAR)"
    for raw in table.files:
        bad.add(
            f'SELECT s.{FILE} AS file, s.{ROW} AS "row", {literal(column.column)} AS "column", '
            f'{literal(reason)} AS reason, refused.detail, {shown} AS "value", source.record '
            f"FROM {name} AS s JOIN refused USING ({INPUT_ORDER}) "
            f'JOIN ({_records(raw, _rows_of(raw, name))}) AS source ON source."row" = s.{ROW} WHERE s.{FILE} = {raw.number}'
        )
    connection.execute(f"DELETE FROM {name} WHERE {INPUT_ORDER} IN (SELECT {INPUT_ORDER} FROM refused)")
    connection.execute("DROP TABLE refused")


def _rows_of(raw: RawFile, name: str) -> str:
    return f"SELECT {ROW} FROM {name} JOIN refused USING ({INPUT_ORDER}) WHERE {FILE} = {raw.number}"


def _records(raw: RawFile, rows: str) -> str:
    """Return a query for row number and JSON record of the given rows only: making the text of all of them is slow."""
    return (
        f'SELECT {raw.row} AS "row", {raw.record} AS record FROM {identifier(raw.relation)} WHERE {raw.row} IN ({rows})'
    )


def shown_time(time: str) -> str:
    """Return the SQL of a time as text, such as 2024-05-31T18:00:00Z."""
    return f"strftime({time} AT TIME ZONE 'UTC', '%Y-%m-%dT%H:%M:%SZ')"
