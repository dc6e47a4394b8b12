"""The imported interactions and the event log as one relation of DuckDB."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import duckdb

from rf_platform.data.event_log.event import ORDER_OFFSET
from rf_platform.data.event_log.parts import ITEM, SEQUENCE, TIME, USER
from rf_platform.data.specs import EventTime
from rf_platform.failures import read_json
from rf_platform.settings import Settings
from rf_platform.sql import identifier, literal, pattern_literal

_KEY = ("user_id", "item_id", "event_timestamp", "event_type")


@contextmanager
def interaction_log(
    interactions: Path, events: Sequence[Path], *, threads: int | None = None, clock: bool = True
) -> Iterator[duckdb.DuckDBPyConnection]:
    """Give a connection with a view ``log`` of all interactions; what does not fit into memory spills beside the table.

    Args:
        interactions: the imported table.
        events: files of the event log.
        threads: CPU threads; default: all.
        clock: see :func:`log_relation`.
    """
    with duckdb.connect() as log:
        log.execute("SET TimeZone = 'UTC'")
        log.execute(f"SET temp_directory = {literal(interactions.parent / '.spill')}")
        if threads:
            log.execute(f"SET threads = {threads}")
        log.execute(f"CREATE VIEW log AS SELECT * FROM {log_relation(log, interactions, events, clock=clock)} AS l")
        yield log


def log_relation(
    db: duckdb.DuckDBPyConnection, interactions: Path, files: Sequence[Path], *, clock: bool = True
) -> str:
    """Return what to put behind FROM to read all interactions, with the columns of the imported table.

    An event that the table has too (the same user, item, time and type, what an import calls a duplicate) counts once.

    Args:
        db: gets a table ``logged`` with the events; the relation is good for this connection.
        interactions: the imported table.
        files: of the event log.
        clock: whether event times are times; else `hour` and `weekday` are null, as in the imported table.
    """
    imported = f"read_parquet({pattern_literal(interactions)})"
    if not files:
        return imported
    listed = ", ".join(pattern_literal(path) for path in files)
    return union_with(db, imported, f"read_parquet([{listed}], union_by_name = true)", clock=clock)


def has_clock(settings: Settings) -> bool:
    """Return whether the times of the imported interactions are times, and not positions."""
    path = settings.workspace.tables / "import.json"
    record = read_json(path, "import again") if path.exists() else {}
    return record.get("time") != EventTime.POSITION.value


def union_with(db: duckdb.DuckDBPyConnection, imported: str, events: str, *, clock: bool) -> str:
    """Return :func:`log_relation` for relations of any kind."""
    columns = {row[0]: row[1] for row in db.execute(f"DESCRIBE SELECT * FROM {imported}").fetchall()}
    there = {row[0] for row in db.execute(f"DESCRIBE SELECT * FROM {events}").fetchall()}
    selected = ", ".join(f"{sql} AS {identifier(name)}" for name, sql in _columns(columns, there, clock).items())
    same = " AND ".join(f"t.{k} IS NOT DISTINCT FROM e.{k}" for k in _KEY if k in columns)
    db.execute(
        f"""CREATE OR REPLACE TABLE logged AS
        WITH e AS MATERIALIZED (SELECT {selected} FROM {events}),
        t AS (SELECT {", ".join(k for k in _KEY if k in columns)} FROM {imported}
              WHERE event_timestamp >= (SELECT min(event_timestamp) FROM e))
        SELECT * FROM e WHERE NOT EXISTS (SELECT 1 FROM t WHERE {same})"""
    )
    names = ", ".join(identifier(name) for name in columns)
    return f"(SELECT {names} FROM {imported} UNION ALL SELECT {names} FROM logged)"


def _columns(columns: Mapping[str, str], there: set[str], clock: bool) -> dict[str, str]:
    """Return the SQL of every column, from an event as the files have it; derived ones as an import derives them."""
    utc = f"{TIME} AT TIME ZONE 'UTC'"
    own = {
        "user_id": USER,
        "item_id": ITEM,
        "event_timestamp": TIME,
        "hour": f"hour({utc})" if clock else "NULL",
        "weekday": f"isodow({utc}) - 1" if clock else "NULL",
        "input_order": f"{ORDER_OFFSET} + {SEQUENCE}",
    }
    return {
        name: f"CAST({own.get(name) or (_value(name, kind) if name in there else 'NULL')} AS {kind})"
        for name, kind in columns.items()
    }


def _value(name: str, kind: str) -> str:
    """Return the SQL of a value that an event brought; times are microseconds."""
    return f"make_timestamptz({identifier(name)})" if kind.startswith("TIMESTAMP") else identifier(name)
