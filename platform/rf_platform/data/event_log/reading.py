"""Events of the log in order from any number on, and as one relation of DuckDB with the imported interactions."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from time import time
from typing import Any

import duckdb

from rf_platform.data.event_log.event import ORDER_OFFSET, LoggedEvent
from rf_platform.data.event_log.log import EventLog
from rf_platform.data.event_log.parts import EVENT_ID, ITEM, SEQUENCE, TIME, USER, EventParts
from rf_platform.data.specs import EventTime
from rf_platform.failures import read_json
from rf_platform.settings import Settings
from rf_platform.sql import identifier, literal, pattern_literal
from rf_platform.time_units import mistaken_unit

_KEY = ("user_id", "item_id", "event_timestamp", "event_type")


@contextmanager
def interaction_log(
    interactions: Path, events: Sequence[Path], *, threads: int | None = None, clock: bool = True
) -> Iterator[duckdb.DuckDBPyConnection]:
    """Yield a connection with a view ``log`` of all interactions; what does not fit into memory spills beside the table.

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


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND = timedelta(seconds=1)


@dataclass(frozen=True, kw_only=True)
class EventWindow:
    """First and last time that an event may have: ``RF_EVENTS_SINCE`` and ``RF_EVENTS_AHEAD_SECONDS``."""

    since: date = date(1990, 1, 1)
    """The first day; earlier times are most likely in another unit. In 1970: times count from anywhere, and no unit is told."""
    ahead_seconds: float = 86_400.0
    """Tolerance for a caller's clock that runs ahead."""
    clock: Callable[[], float] = time
    """Seconds since 1970."""

    def problem(self, timestamp_us: int) -> str | None:
        """Return what is wrong with the time of an event, in microseconds since 1970 (UTC); None if nothing is."""
        if timestamp_us <= 0:
            return f"{timestamp_us} is no time of an event; give microseconds since 1970, UTC"
        if self.since.year > _EPOCH.year and (unit := mistaken_unit(timestamp_us)):
            return unit
        seconds = timestamp_us / 1e6
        first = (datetime(self.since.year, self.since.month, self.since.day, tzinfo=UTC) - _EPOCH) // _SECOND
        if seconds < first:
            moment = _EPOCH + timedelta(seconds=int(seconds))
            return (
                f"{timestamp_us} is {moment:%Y-%m-%dT%H:%M:%SZ} in microseconds since 1970, before {self.since}, the first day "
                f"of events here (RF_EVENTS_SINCE)"
            )
        if (ahead := seconds - self.clock()) > self.ahead_seconds:
            return (
                f"{timestamp_us} lies {ahead:.0f} s in the future; microseconds since 1970, UTC, are meant, and clocks may be "
                f"{self.ahead_seconds:g} s ahead (RF_EVENTS_AHEAD_SECONDS)"
            )
        return None


_OWN = (SEQUENCE, EVENT_ID, USER, ITEM, TIME)


def has_all_after(log: EventLog, parts: EventParts, number: int) -> bool:
    """Return whether all events behind a number can be read here: files may lie on another host."""
    trimmed = log.state().trimmed
    return number >= trimmed or parts.sealed >= trimmed


def read_after(log: EventLog, parts: EventParts, number: int, most: int) -> list[LoggedEvent]:
    """Return the events behind a number, at most ``most``, in order; see :func:`has_all_after`.

    Raises:
        UnavailableError, CorruptError: the log cannot be read.
    """
    events = log.read(number, most)
    if events and events[0].sequence == number + 1:
        return events
    return _from_files(parts, number, most) or events


def _from_files(parts: EventParts, number: int, most: int) -> list[LoggedEvent]:
    with parts.reading() as files:
        if number >= parts.sealed:
            return []
        listed = ", ".join(pattern_literal(path) for path in files)
        with duckdb.connect(config={"threads": 1}) as db:
            table = db.execute(
                f"SELECT * REPLACE (epoch_us({TIME}) AS {TIME}) "
                f"FROM read_parquet([{listed}], union_by_name = true) WHERE {SEQUENCE} > {number} "
                f"ORDER BY {SEQUENCE} LIMIT {most}"
            ).to_arrow_table()
    return list(_events(table.to_pylist()))


def _events(rows: Sequence[dict[str, Any]]) -> Iterator[LoggedEvent]:
    for row in rows:
        yield LoggedEvent(
            sequence=row[SEQUENCE],
            event_id=row[EVENT_ID],
            user_id=row[USER],
            item_id=row[ITEM],
            timestamp_us=row[TIME],
            values={name: value for name, value in row.items() if name not in _OWN and value is not None},
        )
