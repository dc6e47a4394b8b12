"""Point-in-time joins as generated DuckDB SQL.

The meaning is that of Feast's ``get_historical_features(..., filter_by_created_timestamp=True)`` asked one microsecond before
each event, so no feature value from the event's own time or later is ever used: of the rows of an entity that were known by
then, the one with the newest event timestamp (ties: the one created last), unless it is older than the view's ttl.

Feast's own join is an inequality join that needs more memory than a laptop has for a million events; DuckDB's ``ASOF JOIN``
carries only row numbers here and the values are fetched once per distinct row.
"""

from rf_platform.features.read import ViewSource
from rf_platform.features.sources import ViewColumns
from rf_platform.features.spec import IdType
from rf_platform.sql import identifier, pattern_literal

SQL_TYPES: dict[IdType, str] = {"int64": "BIGINT", "string": "VARCHAR"}


def rows_sql(source: ViewSource, columns: ViewColumns) -> str:
    """Return a query over the usable rows of a view: ``rid``, ``key``, ``known``, ``ts`` and its features by full name.

    A row counts from the moment it is ``known``: its event timestamp, or the created timestamp where that is later. A row
    that was overtaken by a newer one before it became known is dropped, so that "latest known" and "newest known" are the
    same row and one as-of comparison finds it. Equal values of an entity share one ``rid``.

    Args:
        source: the view.
        columns: what is read of its file.
    """
    selected = "".join(f", {expression} AS {identifier(name)}" for name, expression in columns.features.items())
    names = "".join(f", {identifier(name)}" for name in columns.features)
    return f"""
        WITH raw AS (
            SELECT {columns.key} AS key, {columns.time} AS ts, {columns.created} AS created,
                   row_number() OVER () AS position{selected}
            FROM read_parquet({pattern_literal(source.path)})
        ), arrivals AS (
            SELECT *, greatest(ts, created) AS known,
                   max(ts) OVER (
                       PARTITION BY key ORDER BY greatest(ts, created), ts, created, position
                       ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS newest_before
            FROM raw
        ), usable AS (
            SELECT * FROM arrivals WHERE newest_before IS NULL OR ts >= newest_before
            QUALIFY row_number() OVER (PARTITION BY key, known ORDER BY ts DESC, created DESC, position DESC) = 1
        ), numbered AS (
            SELECT *, row_number() OVER (ORDER BY key, known) AS arrival FROM usable
        )
        SELECT min(arrival) OVER (PARTITION BY key{names}) AS rid, key, known, ts{names} FROM numbered"""


def join_sql(source: ViewSource, rows: str, log: str, key: str) -> str:
    """Return a query that finds for every ``event`` of ``log`` the ``rid`` of the view's row, or null.

    Args:
        source: the view.
        rows: table made from :func:`rows_sql`.
        log: table with ``event``, ``event_timestamp`` and the join key.
        key: the join key's column in ``log``.
    """
    alive = ""
    if source.ttl is not None:
        # Feast's ttl is inclusive.
        age = f"l.asked - INTERVAL '{int(source.ttl.total_seconds() * 1_000_000)} microseconds'"
        alive = f"CASE WHEN r.ts >= {age} THEN r.rid END"
    return f"""
        SELECT l.event, {alive or "r.rid"} AS rid
        FROM (SELECT event, {identifier(key)} AS key, event_timestamp - INTERVAL '1 microsecond' AS asked FROM {log}) l
        ASOF LEFT JOIN {rows} r ON l.key = r.key AND l.asked >= r.known"""


def latest_sql(rows: str) -> str:
    """Return a query over the newest ``rid`` of every ``key``: what an online store would serve now."""
    return f"SELECT key, rid FROM {rows} QUALIFY row_number() OVER (PARTITION BY key ORDER BY known DESC) = 1"


def first_sql(rows: str) -> str:
    """Return a query over the oldest ``rid`` of every ``key``: what was known of it when it appeared."""
    return f"SELECT key, rid FROM {rows} QUALIFY row_number() OVER (PARTITION BY key ORDER BY known) = 1"
