"""Point-in-time joins as generated DuckDB SQL.

What an event sees is what :mod:`rf_platform.features.view_rows` and :mod:`rf_platform.features.expiry` say holds at its time: no
feature value from the event's own time or later is ever used.

Feast's own join is an inequality join that needs more memory than a laptop has for a million events; DuckDB's ``ASOF JOIN``
carries only row numbers here and the values are fetched once per distinct row.
"""

from rf_platform.features.expiry import alive_sql, known_sql
from rf_platform.features.read import ViewSource
from rf_platform.features.sources import ViewColumns
from rf_platform.features.view_rows import NEWEST_FIRST, timed_rows_sql
from rf_platform.sql import identifier


def rows_sql(source: ViewSource, columns: ViewColumns) -> str:
    """Return a query over the usable rows of a view: ``rid``, ``key``, ``known``, ``ts`` and its features by full name.

    A row that was overtaken by a newer one before it became known is dropped, so that "latest known" and "newest known" are the
    same row and one as-of comparison finds it. Equal values of an entity share one ``rid``.

    Args:
        source: the view.
        columns: what is read of its file.
    """
    selected = [f"{expression} AS {identifier(name)}" for name, expression in columns.features.items()]
    names = "".join(f", {identifier(name)}" for name in columns.features)
    return f"""
        WITH arrivals AS (
            SELECT *, max(ts) OVER (
                PARTITION BY key ORDER BY known, ts, created, position
                ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS newest_before
            FROM ({timed_rows_sql(source, columns, selected)})
        ), usable AS (
            SELECT * FROM arrivals WHERE newest_before IS NULL OR ts >= newest_before
            QUALIFY row_number() OVER (PARTITION BY key, known ORDER BY {NEWEST_FIRST}) = 1
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
    return f"""
        SELECT l.event, CASE WHEN {alive_sql("r.ts", "l.event_timestamp", source.ttl)} THEN r.rid END AS rid
        FROM (SELECT event, {identifier(key)} AS key, event_timestamp FROM {log}) l
        ASOF LEFT JOIN {rows} r ON l.key = r.key AND l.event_timestamp > r.known"""


def latest_sql(source: ViewSource, rows: str, moment_us: int) -> str:
    """Return a query over every ``key`` with the ``rid`` that holds at a moment, or null: what an online read gives then.

    Args:
        source: the view.
        rows: table made from :func:`rows_sql`.
        moment_us: microseconds since 1970.
    """
    moment = f"make_timestamptz({moment_us})"
    return f"""
        SELECT key, CASE WHEN {alive_sql("ts", moment, source.ttl)} THEN rid END AS rid
        FROM {rows} WHERE {known_sql("known", moment)}
        QUALIFY row_number() OVER (PARTITION BY key ORDER BY known DESC) = 1"""


def first_sql(source: ViewSource, rows: str, moment_us: int) -> str:
    """Return a query over the ``rid`` of every ``key`` that held first: what was known of it when it appeared.

    The arguments are those of :func:`latest_sql`; a row that was not known by the moment, or came after its ttl, held never.
    """
    arrived = "known + INTERVAL '1 microsecond'"
    return f"""
        SELECT key, rid FROM {rows}
        WHERE {known_sql("known", f"make_timestamptz({moment_us})")} AND {alive_sql("ts", arrived, source.ttl)}
        QUALIFY row_number() OVER (PARTITION BY key ORDER BY known) = 1"""
