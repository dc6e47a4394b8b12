"""Rows of a feature view's file, in SQL: from when on each counts, and which row of an entity holds at a moment.

The meaning is that of Feast's ``get_historical_features(..., filter_by_created_timestamp=True)`` asked one microsecond before the
moment: of the rows of an entity that were known by then, the one with the newest event timestamp; of those of one time the one
created last, and without a created timestamp the last one in the file. Rows that are not known yet, such as a price planned for
tomorrow, do not count, and :mod:`~rf_platform.features.expiry` says how long the others do.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rf_platform.features.expiry import known_sql
from rf_platform.features.spec import IdType
from rf_platform.sql import pattern_literal

if TYPE_CHECKING:
    from rf_platform.features.read import ViewSource
    from rf_platform.features.sources import ViewColumns

ID_TYPES: dict[IdType, str] = {"int64": "BIGINT", "string": "VARCHAR"}
"""DuckDB's types of ids."""
NEWEST_FIRST = "ts DESC, created DESC, position DESC"
"""Order of the rows of an entity, the one that counts first."""


def timed_rows_sql(source: "ViewSource", columns: "ViewColumns", selected: Sequence[str] = ()) -> str:
    """Return a query over the rows of a view: ``key``, ``ts``, ``created``, ``known`` and ``position``.

    A row counts from the moment it is ``known``: its event timestamp, or the created timestamp where that is later.

    Args:
        source: the view.
        columns: what is read of its file.
        selected: further expressions over the file's columns, with their names.
    """
    more = "".join(f", {expression}" for expression in selected)
    return f"""
        SELECT *, greatest(ts, created) AS known FROM (
            SELECT {columns.key} AS key, {columns.time} AS ts, {columns.created} AS created,
                   row_number() OVER () AS position{more}
            FROM read_parquet({pattern_literal(source.path)}))"""


def newest_rows_sql(source: "ViewSource", columns: "ViewColumns", selected: Sequence[str], moment_us: int) -> str:
    """Return a query over the row of each entity that holds at a moment, expired or not.

    Its columns are the key, the event and the created timestamp and then what is ``selected``, in this order. Only keys and
    times are sorted, whatever the width of the rows.

    Args:
        source: the view.
        columns: what is read of its file.
        selected: expressions over the file's columns.
        moment_us: microseconds since 1970.
    """
    named = "".join(f", {expression} AS f{i}" for i, expression in enumerate(selected))
    listed = "".join(f", wide.f{i}" for i in range(len(selected)))
    return f"""
        WITH holding AS (
            SELECT key, ts, created, position FROM ({timed_rows_sql(source, columns)})
            WHERE {known_sql("known", f"make_timestamptz({moment_us})")}
            QUALIFY row_number() OVER (PARTITION BY key ORDER BY {NEWEST_FIRST}) = 1)
        SELECT holding.key, holding.ts, holding.created{listed}
        FROM (SELECT row_number() OVER () AS position{named} FROM read_parquet({pattern_literal(source.path)})) wide
        JOIN holding USING (position)"""
