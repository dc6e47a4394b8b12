"""The event log in SQL: appended to by many processes, followed in order by one.

A writer holds the lock of all writers until it has committed, so numbers become visible in their order: who has read up to
number n has missed none below it.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Engine, Row, delete, func, insert, select, update

from rf_platform.data.event_log.event import Event, LoggedEvent
from rf_platform.data.event_log.tables import EVENTS, IDS, STATE, log_url, open_database
from rf_platform.registry.engine import explained, writing
from rf_platform.settings import Settings

_IN_ONE_STATEMENT = 500


@dataclass(frozen=True, kw_only=True)
class LogState:
    """How far the online store has followed the log."""

    applied: int
    """Events up to this number are in the online store."""
    redo_to: int
    """Of the ones after it, those up to this number may be there as well: a materialisation crossed their way."""
    reset: int
    """Number of materialisations; a new one may have come with new definitions."""
    loading: int = field(default=-1, compare=False)
    """A materialisation is going on: the events after this number may have to be applied again. -1: none is."""


class EventLog:
    """Appends, reads and trims events; safe from many threads and processes at once.

    All methods raise :class:`~rf_platform.errors.UnavailableError` when the database cannot be used.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine, self._writer = engine, writing(engine)

    @classmethod
    def open(cls, settings: Settings) -> "EventLog":
        """Open the log of a workspace; see :func:`open_database` for what is raised."""
        return cls(open_database(log_url(settings)))

    def close(self) -> None:
        """Close the connections."""
        self.engine.dispose()

    @contextmanager
    def _transaction(self, engine: Engine) -> Iterator[Connection]:
        with explained(engine.url), engine.begin() as connection:
            yield connection

    def append(self, batches: Sequence[Sequence[Event]]) -> list[list[bool]]:
        """Record batches of events in one transaction, in their order.

        Returns:
            For every event whether it is new; false: an event of this id was recorded before. All are on disk then.
        """
        new: list[list[bool]] = []
        fresh: list[tuple[bytes, Event]] = []
        digests = [[event.digest for event in batch] for batch in batches]
        with self._transaction(self._writer) as connection:
            known = _known(connection, [digest for some in digests for digest in some])
            for batch, some in zip(batches, digests, strict=True):
                flags = []
                for event, digest in zip(batch, some, strict=True):
                    flags.append(digest not in known)
                    if flags[-1]:
                        known.add(digest)
                        fresh.append((digest, event))
                new.append(flags)
            if fresh:
                connection.execute(insert(IDS), [{"digest": digest} for digest, _ in fresh])
                connection.execute(
                    insert(EVENTS),
                    [
                        {
                            "event_id": event.event_id,
                            "user_id": event.user_id,
                            "item_id": event.item_id,
                            "timestamp_us": event.timestamp_us,
                            "values_json": event.written(),
                        }
                        for _, event in fresh
                    ],
                )
        return new

    def read(self, after: int, most: int) -> list[LoggedEvent]:
        """Return the events with greater numbers than ``after`` that are in SQL, at most ``most``, in order."""
        query = select(EVENTS).where(EVENTS.c.sequence > after).order_by(EVENTS.c.sequence).limit(most)
        with self._transaction(self.engine) as connection:
            return _events(connection.execute(query))

    def of_users(self, users: Sequence[str], up_to: int) -> list[LoggedEvent]:
        """Return the users' events that are in SQL, up to a number, in order."""
        found: list[LoggedEvent] = []
        with self._transaction(self.engine) as connection:
            for start in range(0, len(users), _IN_ONE_STATEMENT):
                some = users[start : start + _IN_ONE_STATEMENT]
                query = select(EVENTS).where(EVENTS.c.user_id.in_(some), EVENTS.c.sequence <= up_to)
                found += _events(connection.execute(query))
        return sorted(found, key=lambda event: event.sequence)

    def head(self) -> int:
        """Return the number of the newest event; 0 if there was none."""
        with self._transaction(self.engine) as connection:
            return _head(connection)

    def state(self) -> LogState:
        """Return how far the online store is."""
        with self._transaction(self.engine) as connection:
            return _state(connection)

    def advance(self, before: LogState, applied: int) -> bool:
        """Note that events up to ``applied`` are in the online store; false if a materialisation came in between."""
        with self._transaction(self._writer) as connection:
            if _state(connection) != before:
                return False
            _set(connection, "applied", applied)
        return True

    def loading(self, sealed: int) -> None:
        """Note that the online store is going to be loaded from the events up to ``sealed``, or later ones.

        Until :meth:`materialized` the events behind it stay in SQL: they have to be applied again. If the load never ends, the
        next one makes good for it.
        """
        with self._transaction(self._writer) as connection:
            _set(connection, "loading", sealed)

    def materialized(self, sealed: int) -> None:
        """Note that the online store was loaded from the events up to ``sealed``, while others were being applied.

        What came after has to be applied again, and so has what was on its way.
        """
        with self._transaction(self._writer) as connection:
            state = _state(connection)
            _set(connection, "applied", min(state.applied, sealed))
            _set(connection, "redo_to", max(state.redo_to, _head(connection)))
            _set(connection, "reset", state.reset + 1)
            _set(connection, "loading", -1)

    def trim(self, sealed: int) -> int:
        """Remove the events up to ``sealed`` that the online store has; return how many there were."""
        with self._transaction(self._writer) as connection:
            state = _state(connection)
            last = min(sealed, state.applied, sealed if state.loading < 0 else state.loading)
            return connection.execute(delete(EVENTS).where(EVENTS.c.sequence <= last)).rowcount


def _known(connection: Connection, digests: Sequence[bytes]) -> set[bytes]:
    known: set[bytes] = set()
    for start in range(0, len(digests), _IN_ONE_STATEMENT):
        some = digests[start : start + _IN_ONE_STATEMENT]
        known.update(bytes(d) for d in connection.scalars(select(IDS.c.digest).where(IDS.c.digest.in_(some))))
    return known


def _head(connection: Connection) -> int:
    newest = connection.scalar(select(func.max(EVENTS.c.sequence))) or 0
    return max(int(newest), _state(connection).applied)  # all rows may be removed by now


def _state(connection: Connection) -> LogState:
    values = {row.name: row.value for row in connection.execute(select(STATE))}
    return LogState(
        applied=values["applied"],
        redo_to=values["redo_to"],
        reset=values["reset"],
        loading=values.get("loading", -1),
    )


def _set(connection: Connection, name: str, value: int) -> None:
    connection.execute(update(STATE).where(STATE.c.name == name).values(value=value))


def _events(rows: Iterable[Row[Any]]) -> list[LoggedEvent]:
    return [
        LoggedEvent(
            sequence=row.sequence,
            event_id=row.event_id,
            user_id=row.user_id,
            item_id=row.item_id,
            timestamp_us=row.timestamp_us,
            values=json.loads(row.values_json),
        )
        for row in rows
    ]
