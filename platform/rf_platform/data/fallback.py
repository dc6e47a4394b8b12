"""Users of the log that are known by another column, such as that of a session: their number, and ids that are not unique."""

from collections.abc import Sequence
from dataclasses import replace

import duckdb

from rf_platform.data.convert import base_value, family, scalar
from rf_platform.data.infer import LoadedTable
from rf_platform.data.raw import EMPTY, RawFile
from rf_platform.data.specs import Field, Kind
from rf_platform.errors import DataError
from rf_platform.sql import identifier, literal


def described_fallback(connection: duckdb.DuckDBPyConnection, tables: Sequence[LoadedTable]) -> list[str]:
    """Return a note on the events with a user from the fallback column; none without one.

    Raises:
        DataError: an id of the fallback is that of a user, too: two people would share a history.
    """
    log = next(table for table in tables if table.spec.table == "interactions")
    field = next(f for f in log.spec.fields if f.name == "user_id")
    if field.fallback is None:
        return []
    ids = " UNION ALL ".join(
        f"SELECT {_text(raw, replace(field, fallback=None))} AS own, "
        f"{literal(field.prefix)} || {_text(raw, replace(field, column=field.fallback, fallback=None))} AS other "
        f"FROM {identifier(raw.relation)}"
        for raw in log.files
    )
    connection.execute(f"CREATE TEMP TABLE known_by AS {ids}")
    both = connection.execute(
        "SELECT count(DISTINCT other), min(other) FROM known_by WHERE own IS NULL AND other IN (SELECT own FROM known_by)"
    ).fetchone()
    events, histories = connection.execute(
        "SELECT count(other), count(DISTINCT other) FROM known_by WHERE own IS NULL"
    ).fetchone() or (0, 0)
    connection.execute("DROP TABLE known_by")
    if both is not None and both[0]:
        raise DataError(
            f"{both[0]:,} ids of the column {field.fallback!r} are also ids of users in {field.column!r}, for example "
            f"{both[1]!r}: they would share a history; tell them apart with a `prefix` in the mapping, such as "
            f'`user: {{column: {field.column}, fallback: {field.fallback}, prefix: "session:"}}`'
        )
    return [f"{events:,} events without {field.column} make {histories:,} histories by {field.fallback}"]


def _text(raw: RawFile, field: Field) -> str:
    column = raw.column(field)
    if column.type == EMPTY:
        return "CAST(NULL AS VARCHAR)"
    return scalar(Kind.STRING, family(column.type), base_value(raw, column, Kind.STRING)) or "CAST(NULL AS VARCHAR)"
