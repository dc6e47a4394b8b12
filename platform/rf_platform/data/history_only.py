"""Items of the log that no file describes: rows of the items table that say they are not to be recommended."""

from collections.abc import Sequence
from dataclasses import replace

import duckdb

from rf_platform.data.infer import LoadedTable
from rf_platform.data.log_columns import RECOMMENDABLE
from rf_platform.data.specs import Field, Kind
from rf_platform.data.stage import EVENT_TIME, INPUT_ORDER, staged
from rf_platform.errors import DataError
from rf_platform.sql import identifier


def with_history_only(connection: duckdb.DuckDBPyConnection, tables: Sequence[LoadedTable]) -> list[LoadedTable]:
    """Add a row to the staged items for every item that only the log has, and a column that tells them from the others."""
    items = next(table for table in tables if table.spec.table == "items")
    spec, name = items.spec, identifier(staged("items"))
    said = any(f.name == RECOMMENDABLE for f in spec.fields)
    if not said:
        connection.execute(f"ALTER TABLE {name} ADD COLUMN {RECOMMENDABLE} BIGINT DEFAULT 1")
        field = Field(name=RECOMMENDABLE, column=RECOMMENDABLE, kind=Kind.BOOL)
        spec = replace(
            spec, fields=(*spec.fields, field), outputs={**spec.outputs, RECOMMENDABLE: f"coalesce({RECOMMENDABLE}, 0)"}
        )
    timed = any(f.name == EVENT_TIME for f in spec.fields)
    connection.execute(
        f"INSERT INTO {name} BY NAME SELECT DISTINCT item_id, 0 AS {RECOMMENDABLE}"
        f"{f', make_timestamptz(0) AS {EVENT_TIME}' if timed else ''} "
        f"FROM {identifier(staged('interactions'))} ANTI JOIN {name} USING (item_id)"
    )
    return [replace(items, spec=spec) if table is items else table for table in tables]


def not_recommendable(connection: duckdb.DuckDBPyConnection, tables: Sequence[LoadedTable]) -> list[str]:
    """Return a note on the described items that are not to be recommended; none if there are none.

    Raises:
        DataError: that is all of them: there would be nothing to recommend.
    """
    items = next((table.spec for table in tables if table.spec.table == "items"), None)
    if items is None or RECOMMENDABLE not in items.outputs:
        return []
    said = items.outputs[RECOMMENDABLE]
    all_items, out, offered = connection.execute(
        f"SELECT count(DISTINCT item_id), count(DISTINCT item_id) FILTER ({said} = 0), count(*) FILTER ({said} = 1) "
        f"FROM {identifier(items.staged)} WHERE {INPUT_ORDER} IS NOT NULL"
    ).fetchone() or (0, 0, 0)
    if out and not offered:
        field = next(f for f in items.fields if f.name == RECOMMENDABLE)
        raise DataError(
            f"none of the {all_items:,} items is recommended, by {field.passes or field.column!r}: nothing could be offered; "
            f"compare `recommendable` in the mapping with what the column has"
        )
    return [f"{out:,} of {all_items:,} items are in the catalog and not recommended, by `recommendable`"] if out else []
