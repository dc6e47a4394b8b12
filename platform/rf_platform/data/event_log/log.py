"""Event log in SQL: appended to by many processes, followed in order by one, moved to Parquet files when it is old.

A writer holds the lock of all writers until it has committed, so numbers become visible in their order: a reader of number n
has missed none below it. The state of the log's online store lies beside it.
"""

import json
import secrets
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from enum import IntEnum
from typing import Any

from sqlalchemy import Connection, Engine, Row, delete, func, insert, select, update

from rf_platform.data.event_log.event import Event, LoggedEvent
from rf_platform.data.event_log.parts import EventParts
from rf_platform.data.event_log.tables import EVENTS, IDS, STATE, existing_database, log_url, open_database
from rf_platform.registry.engine import database_file, explained, parse_url, writing
from rf_platform.registry.group_commit import GroupedWrites
from rf_platform.settings import Settings

_RANDOM_BITS = 31


class StoreFault(IntEnum):
    """Known fault of the online store that follows the log."""

    NONE = 0
    BEHIND = 1
    """It lost events that it had; they are being applied again."""
    UNLOADED = 2
    """It lost what was materialised: events have no ground to stand on until it is loaded again."""
    FOREIGN = 3
    """It follows another log, or more events than the log has."""


@dataclass(frozen=True, kw_only=True)
class LogState:
    """Position of the online store in the log."""

    applied: int
    """Events up to this number are in the online store."""
    replay_until: int
    """Of the ones after it, those up to this number may be there as well: a materialisation crossed their way."""
    reset: int
    """Number of materialisations; a new one may have come with new definitions."""
    loading: int = field(default=-1, compare=False)
    """A materialisation is going on: the events after this number may have to be applied again. -1: none is."""
    log: int = 0
    """Identity of the log, drawn when it was made."""
    epoch: int = 0
    """Last load of the online store, see :func:`next_epoch`; 0: none since the store has marks."""
    pending: int = field(default=0, compare=False)
    """Epoch of the materialisation that is going on, or that failed or was killed since; 0: none."""
    fault: StoreFault = StoreFault.NONE
    """Known fault of the online store."""
    trimmed: int = field(default=0, compare=False)
    """Highest number of the events that have left SQL; 0: none has."""
    whole_at: int = 0
    """A store that is behind is whole again when the events up to this number are applied."""


def next_epoch(state: LogState) -> int:
    """Return an epoch for the next load: its number above random bits, which differ where copies of a log went apart."""
    number = load_number(max(state.epoch, state.pending)) + 1
    return number << _RANDOM_BITS | secrets.randbits(_RANDOM_BITS)


def load_number(epoch: int) -> int:
    """Return the number of a load; later ones of the same log have greater numbers."""
    return epoch >> _RANDOM_BITS


def read_state(connection: Connection) -> LogState:
    """Return the state; what an earlier version did not know is as in a new log."""
    values = {row.name: row.value for row in connection.execute(select(STATE))}
    known = {each.name: values[each.name] for each in fields(LogState) if each.name in values}
    return LogState(**{**known, "fault": StoreFault(known.get("fault", 0))})


def write_state(connection: Connection, **values: int) -> None:
    """Change some of the values."""
    for name, value in values.items():
        connection.execute(update(STATE).where(STATE.c.name == name).values(value=int(value)))


_IN_ONE_STATEMENT = 500


class EventLog:
    """Appends, reads and trims events; safe from many threads and processes at once.

    All methods raise :class:`~rf_platform.errors.UnavailableError` when the database cannot be used.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine, self._writer = engine, writing(engine)

    @classmethod
    def open(cls, settings: Settings) -> "EventLog":
        """Open the log of a workspace; see :func:`open_database` for what is raised, and NotFoundError: there is no workspace."""
        if settings.registry_url is None:
            settings.workspace.check_exists()
        return cls(open_database(log_url(settings)))

    @classmethod
    def existing(cls, settings: Settings) -> "EventLog | None":
        """Open the log of a workspace for reading, as it is; None if there is none."""
        engine = existing_database(log_url(settings))
        return None if engine is None else cls(engine)

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
            return read_state(connection)

    def advance(self, before: LogState, applied: int) -> LogState | None:
        """Note that events up to ``applied`` are in the online store.

        Returns:
            The new state; None if it was not ``before`` any more, and nothing was noted.
        """
        with self._transaction(self._writer) as connection:
            if read_state(connection) != before:
                return None
            write_state(connection, applied=applied)
            if before.fault is StoreFault.BEHIND and applied >= before.whole_at:
                write_state(connection, fault=StoreFault.NONE)
            return read_state(connection)

    def rewind(self, before: LogState, applied: int, whole_at: int) -> bool:
        """Note that the online store lost what came after ``applied``; false if its state changed in between.

        What is behind that number has to be applied again; the store is whole when it has the events up to ``whole_at``.
        """
        with self._transaction(self._writer) as connection:
            if read_state(connection) != before:
                return False
            replay_until, whole_at = max(before.replay_until, _head(connection)), max(before.whole_at, whole_at)
            applied = min(applied, before.applied)
            write_state(
                connection, applied=applied, replay_until=replay_until, whole_at=whole_at, fault=StoreFault.BEHIND
            )
        return True

    def note_fault(self, before: LogState, fault: StoreFault) -> bool:
        """Note what is wrong with the online store, for all processes; false if its state changed in between."""
        with self._transaction(self._writer) as connection:
            if read_state(connection) != before:
                return False
            write_state(connection, fault=fault)
        return True

    def learned(self) -> int:
        """Return the number of the last event that items have learned from, or were not to."""
        with self._transaction(self.engine) as connection:
            return int(connection.scalar(select(STATE.c.value).where(STATE.c.name == "learned")) or 0)

    def note_learned(self, number: int) -> None:
        """Note how far items have learned."""
        with self._transaction(self._writer) as connection:
            write_state(connection, learned=number)

    def loading(self, sealed: int) -> int:
        """Note that the online store is going to be loaded from the events up to ``sealed``, or later ones.

        Until :meth:`materialized` the events behind it stay in SQL: they have to be applied again. If the load never ends, the
        next one makes good for it.

        Returns:
            The epoch of the load.
        """
        with self._transaction(self._writer) as connection:
            pending = next_epoch(read_state(connection))
            write_state(connection, loading=sealed, pending=pending)
        return pending

    def materialized(self, sealed: int, epoch: int = 0) -> None:
        """Note that the online store was loaded from the events up to ``sealed``, while others were being applied.

        What came after has to be applied again, and so has what was on its way.

        Args:
            sealed: the last event of the load.
            epoch: of the load, if the store is whole with it; 0: it failed, or loaded some views into a store that lost others.
        """
        with self._transaction(self._writer) as connection:
            state = read_state(connection)
            write_state(
                connection,
                applied=min(state.applied, sealed),
                replay_until=max(state.replay_until, _head(connection)),
                reset=state.reset + 1,
                loading=-1,
            )
            if epoch:
                write_state(connection, epoch=epoch, pending=0, fault=StoreFault.NONE, whole_at=0)

    def forget(self, user_id: str) -> int:
        """Remove the events of a user; return how many there were. The digests of event ids stay, which say nothing of users."""
        with self._transaction(self._writer) as connection:
            of_user = EVENTS.c.user_id == user_id
            return connection.execute(delete(EVENTS).where(of_user)).rowcount

    def trim(self, sealed: int) -> int:
        """Remove the events up to ``sealed`` that the online store has; return how many there were."""
        with self._transaction(self._writer) as connection:
            state = read_state(connection)
            last = min(sealed, state.applied, sealed if state.loading < 0 else state.loading)
            removed = EVENTS.c.sequence <= last
            if highest := connection.scalar(select(func.max(EVENTS.c.sequence)).where(removed)):
                write_state(connection, trimmed=int(highest))
            return connection.execute(delete(EVENTS).where(removed)).rowcount


def _known(connection: Connection, digests: Sequence[bytes]) -> set[bytes]:
    known: set[bytes] = set()
    for start in range(0, len(digests), _IN_ONE_STATEMENT):
        some = digests[start : start + _IN_ONE_STATEMENT]
        known.update(bytes(d) for d in connection.scalars(select(IDS.c.digest).where(IDS.c.digest.in_(some))))
    return known


def _head(connection: Connection) -> int:
    newest = connection.scalar(select(func.max(EVENTS.c.sequence))) or 0
    return max(int(newest), read_state(connection).applied)  # all rows may be removed by now


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


_PAUSE = 0.25
"""Of the time of a transaction, before the next one."""
MOST = 5_000
"""Events of one transaction, give or take a batch: they hold up the writers of other processes."""


class GroupCommit(GroupedWrites[Event, bool]):
    """Records events; the result says of each whether it is new."""

    def __init__(self, log: EventLog) -> None:
        super().__init__(log.append, most=MOST, name="rf-events", pause=_PAUSE)


_AT_ONCE = 100_000


def seal(settings: Settings) -> EventParts:
    """Move all recorded events into the files of the workspace, and return these.

    Events leave SQL when they are in a file that is on disk and in the online store. Killed at any moment, the next call goes on:
    what counts is the manifest's last number.

    Raises:
        UnavailableError: the log cannot be read.
        CorruptError: the manifest is damaged.
    """
    parts = EventParts(settings.workspace.events)
    if (log := _log(settings)) is None:
        return parts
    try:
        with parts.writing():
            sealed, head = parts.sealed, log.head()
            while sealed < head and (events := log.read(sealed, _AT_ONCE)):
                parts.add(events)
                sealed = events[-1].sequence
            log.trim(sealed)
    finally:
        log.close()
    return parts


def _log(settings: Settings) -> EventLog | None:
    """Return the log, or None where nothing was ever recorded."""
    file = database_file(parse_url(log_url(settings)))
    return None if file is not None and not file.exists() else EventLog.open(settings)
