"""Events in order from any number on, wherever they lie: most are in SQL, those that were moved out of it in files."""

from collections.abc import Iterator, Sequence
from typing import Any

import duckdb

from rf_platform.data.event_log.event import LoggedEvent
from rf_platform.data.event_log.log import EventLog
from rf_platform.data.event_log.parts import EVENT_ID, ITEM, SEQUENCE, TIME, USER, EventParts
from rf_platform.sql import pattern_literal

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
