"""Attribute tables that come in several files: joined by key, and by time where rows have one."""

from collections.abc import Sequence
from dataclasses import replace

import duckdb

from rf_platform.data.infer import LoadedTable
from rf_platform.data.log_columns import STATIC
from rf_platform.data.specs import TABLES, Field, TableName
from rf_platform.data.stage import EVENT_TIME, FILE, INPUT_ORDER, ROW, staged
from rf_platform.errors import DataError
from rf_platform.sql import identifier

_OWN = f"{FILE}, {ROW}, {INPUT_ORDER}"


def join_parts(
    connection: duckdb.DuckDBPyConnection, tables: Sequence[LoadedTable]
) -> tuple[list[LoadedTable], list[str]]:
    """Join the staged parts of each table into one staged table, and return the tables with warnings.

    The first part says which items or users there are. A row of it has the values that the others have for its key; where parts
    have times, those that held at the row's time, and a change in any part is one more row.

    Raises:
        DataError: the first part has no good row.
    """
    joined, warnings = list[LoadedTable](), list[str]()
    for name in TABLES:
        parts = [table for table in tables if table.spec.table == name]
        if len(parts) > 1:
            warnings += _join(connection, name, parts)
            parts = [_merged(parts)]
        joined += parts
    return joined, warnings


def _merged(parts: Sequence[LoadedTable]) -> LoadedTable:
    fields: dict[str, Field] = {f.name: f for part in parts for f in part.spec.fields}
    outputs = {name: sql for part in parts for name, sql in part.spec.outputs.items()}
    if EVENT_TIME in fields:
        outputs[EVENT_TIME] = EVENT_TIME
    spec = replace(
        parts[0].spec,
        fields=tuple(fields.values()),
        outputs=outputs,
        files=tuple(f for p in parts for f in p.spec.files),
    )
    return LoadedTable(spec, tuple(raw for part in parts for raw in part.files))


def _join(connection: duckdb.DuckDBPyConnection, name: TableName, parts: Sequence[LoadedTable]) -> list[str]:
    base = parts[0].spec
    key = next(f.name for f in base.fields if f.id_of is not None)
    names = [identifier(part.spec.staged) for part in parts]
    if not _count(connection, f"SELECT count(*) FROM {names[0]}"):
        raise DataError(
            f"{base.files[0].name}: no good row is left, and it says which {name} there are; mend the input"
        )
    timed = [EVENT_TIME in (f.name for f in part.spec.fields) for part in parts]
    columns = [
        [identifier(f.name) for f in part.spec.fields if f.id_of is None and f.name != EVENT_TIME] for part in parts
    ]
    if any(timed):
        query = _by_time(names, key, timed, columns)
    else:
        picked = ", ".join([f"b.{key}", *(f"p{i}.{column}" for i, listed in enumerate(columns) for column in listed)])
        joins = " ".join(f"LEFT JOIN {table} p{i} USING ({key})" for i, table in enumerate(names))
        query = f"SELECT b.{FILE}, b.{ROW}, b.{INPUT_ORDER}, {picked} FROM {names[0]} b {joins}"
    connection.execute(f"CREATE TABLE joined AS {query}")
    warnings = [
        _left_out(connection, part, names[0], table, key) for part, table in zip(parts[1:], names[1:], strict=True)
    ]
    for table in names:
        connection.execute(f"DROP TABLE {table}")
    connection.execute(f"ALTER TABLE joined RENAME TO {identifier(staged(name))}")
    return [warning for warning in warnings if warning]


def _by_time(names: Sequence[str], key: str, timed: Sequence[bool], columns: Sequence[Sequence[str]]) -> str:
    """Return the query of one row for every moment at which a part changes, with what each part says then.

    A further part without times adds to the rows of the others and none of its own.
    """
    always = STATIC[EVENT_TIME]
    times = [EVENT_TIME if each else always for each in timed]
    moments = " UNION ".join(
        f"SELECT own.{key}, {time} AS moment FROM {table} own SEMI JOIN {names[0]} known USING ({key})"
        for part, (table, time) in enumerate(zip(names, times, strict=True))
        if part == 0 or timed[part]
    )
    joins = " ".join(
        f"ASOF LEFT JOIN (SELECT *, {time} AS since FROM {table}) p{i} ON m.{key} = p{i}.{key} AND m.moment >= p{i}.since"
        if each
        else f"LEFT JOIN {table} p{i} ON m.{key} = p{i}.{key}"
        for i, (table, time, each) in enumerate(zip(names, times, timed, strict=True))
    )
    picked = "".join(f", p{i}.{column}" for i, listed in enumerate(columns) for column in listed)
    own = ", ".join(f"coalesce(p0.{each}, 0) AS {each}" for each in (FILE, ROW, INPUT_ORDER))
    return f"SELECT {own}, m.{key}, m.moment AS {EVENT_TIME}{picked} FROM ({moments}) m {joins}"


def _left_out(connection: duckdb.DuckDBPyConnection, part: LoadedTable, base: str, table: str, key: str) -> str:
    side = key.removesuffix("_id")
    row = connection.execute(
        f"SELECT count(DISTINCT {key}), min({key}) FROM {table} ANTI JOIN {base} USING ({key})"
    ).fetchone()
    if row is None or not row[0]:
        return ""
    return (
        f"{part.spec.files[0].name}: {row[0]:,} {side}s are left out, for example {row[1]!r}: the first part of the table, which "
        f"says which {side}s there are, lacks them"
    )


def _count(connection: duckdb.DuckDBPyConnection, query: str) -> int:
    return int((connection.execute(query).fetchone() or (0,))[0])
