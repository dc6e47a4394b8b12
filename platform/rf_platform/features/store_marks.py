"""Marks in an online store: which load it is from, and how far it has followed the event log.

They are rows of the store, written after those that they speak of: what brings these back to an earlier state (a snapshot that is
restored, a flush, a replica that lagged) brings the marks back, too. The view is made here and never registered, as that of
the seen sets.

Marks of what was applied are written to two rows in turn. One that is written before it is noticed that the store went back then
stands beside one that is not its predecessor.
"""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import astuple, dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import TYPE_CHECKING, Any

from rf_platform.data.event_log import EventLog, LoggedEvent, LogState, load_number, read_after
from rf_platform.data.event_log.parts import EventParts
from rf_platform.features.online_table import StoreFile, has_table
from rf_platform.interrupts import raise_if_received
from rf_platform.settings import Settings

if TYPE_CHECKING:
    from feast import FeatureStore, FeatureView

VIEW = "rf_marks"
_KEY, _NUMBERS = "rf_mark", "numbers"
_ROWS = ("load", "applied 0", "applied 1")


@dataclass(frozen=True)
class LoadMark:
    """Mark of a materialisation."""

    log: int
    """The event log."""
    epoch: int
    """The load; see :class:`~rf_platform.data.event_log.LogState`."""
    sealed: int
    """The last event of the log that its rows have."""


@dataclass(frozen=True)
class AppliedMark:
    """Mark of a batch of events."""

    epoch: int
    """The load that wrote the rows under the events; after another load the mark says nothing."""
    number: int
    """Of the mark: one more than that of the mark before."""
    position: int
    """All events up to this number are in the store."""
    event: int
    """Digest of the event of that number, see :func:`digest_of`; 0: not known."""


@dataclass(frozen=True)
class Marks:
    """All marks of a store."""

    load: LoadMark | None = None
    applied: tuple[AppliedMark, ...] = ()
    """By rising number, at most two."""

    @property
    def next_number(self) -> int:
        """Number of the next mark."""
        return self.applied[-1].number + 1 if self.applied else 1

    @property
    def last(self) -> AppliedMark | None:
        """The mark that says how far the store is; None: the load does."""
        if self.load is None or not self.applied or self.applied[-1].epoch != self.load.epoch:
            return None
        return self.applied[-1] if self.unbroken else None

    @property
    def unbroken(self) -> bool:
        """Whether the newest mark stands beside its predecessor."""
        return [mark.number for mark in self.applied] == list(range(self.next_number - 2, self.next_number))

    @property
    def position(self) -> int:
        """All events up to this number are in the store; 0 without a load."""
        if self.load is None:
            return 0
        # Where the marks are broken, either may be of a state from before the other: only the load is certain.
        return self.load.sealed if self.last is None else self.last.position


def digest_of(event: LoggedEvent) -> int:
    """Return what a mark keeps of an event: the number alone may be given again by a log that was restored."""
    return int.from_bytes(event.digest[:7], "big")


class StoreMarks:
    """Reads and writes the marks by a connection that it is given. Each store raises errors of its own."""

    def __init__(self, store: "FeatureStore") -> None:
        """Make the view, and the keys of its rows."""
        from feast.protos.feast.types.EntityKey_pb2 import EntityKey
        from feast.protos.feast.types.Value_pb2 import Value

        self._config, self._view = store.config, _view()
        self._keys = [EntityKey(join_keys=[_KEY], entity_values=[Value(string_val=row)]) for row in _ROWS]

    def create(self, online: Any) -> None:
        """Make the table, if there is none."""
        online.update(self._config, [], [self._view], [], [], True)

    def drop(self, online: Any) -> None:
        """Drop the table, which ``FeatureStore.teardown`` does not know."""
        online.update(self._config, [self._view], [], [], [], True)

    def read(self, online: Any) -> Marks:
        """Return the marks; of a store without the table, none."""
        try:
            found = online.online_read(self._config, self._view, self._keys, [_NUMBERS])
        except Exception:
            raise_if_received()
            if has_table(self._config, online, self._view):
                raise
            return Marks()
        rows = [list(row[_NUMBERS].int64_list_val.val) if row else [] for _, row in found]
        applied = sorted((AppliedMark(*row) for row in rows[1:] if row), key=lambda mark: mark.number)
        return Marks(LoadMark(*rows[0]) if rows[0] else None, tuple(applied))

    def write_load(self, online: Any, mark: LoadMark) -> None:
        """Write that the rows of a load are there."""
        self._write(online, [(0, mark)])

    def write_applied(self, online: Any, marks: Sequence[AppliedMark]) -> None:
        """Write that the rows of some events are there."""
        self._write(online, [(1 + mark.number % 2, mark) for mark in marks])

    def _write(self, online: Any, rows: Sequence[tuple[int, LoadMark | AppliedMark]]) -> None:
        from feast.protos.feast.types.Value_pb2 import Int64List, Value

        if hasattr(self._config.online_store, "skip_dedup"):  # else Redis keeps a row of a later time
            self._config.online_store.skip_dedup = True
        now = datetime.now(UTC)
        data = [
            (self._keys[row], {_NUMBERS: Value(int64_list_val=Int64List(val=astuple(mark)))}, now, None)
            for row, mark in rows
        ]
        online.online_write_batch(self._config, self._view, data, None)


def _view() -> "FeatureView":
    from feast import Entity, FeatureView, Field, FileSource, ValueType
    from feast.types import Array, Int64, String

    return FeatureView(
        name=VIEW,
        entities=[Entity(name=_KEY, join_keys=[_KEY], value_type=ValueType.STRING)],
        # Feast wants a source.
        source=FileSource(name=VIEW, path=f"{VIEW}.parquet", timestamp_field="event_timestamp"),
        schema=[Field(name=_KEY, dtype=String), Field(name=_NUMBERS, dtype=Array(Int64))],
    )


class Standing(Enum):
    """Standing of an online store relative to an event log."""

    CURRENT = "current"
    """It has what the log says that it has."""
    UNMARKED = "unmarked"
    """Neither knows of a load: none has run, or one of a version that left no marks."""
    FINISHING = "finishing"
    """Its rows are of a materialisation that has not told the log yet."""
    BEHIND = "behind"
    """It lost events that it had."""
    UNLOADED = "unloaded"
    """It lost what was materialised."""
    FOREIGN = "foreign"
    """It follows another log, or more events than the log has."""


@dataclass(frozen=True, kw_only=True)
class Compared:
    """Result of a comparison."""

    standing: Standing
    position: int
    """All events up to this number are in the store."""
    detail: str = ""
    """Fault, as a sentence; empty if there is none."""


@dataclass(frozen=True, kw_only=True)
class LogView:
    """The part of a log that a comparison with a store needs."""

    state: LogState
    head: int
    """Its newest event."""
    event: int | None
    """Digest of the event that the store's last mark names; None: not known."""

    @classmethod
    def of(cls, log: EventLog, parts: EventParts, marks: Marks, state: LogState | None = None) -> "LogView":
        """Read it; after the marks, which are never ahead of a log that is read later."""
        last, event = marks.last, None
        if last is not None and last.event:
            found = read_after(log, parts, last.position - 1, 1)
            event = digest_of(found[0]) if found and found[0].sequence == last.position else None
        return cls(state=state or log.state(), head=log.head(), event=event)


def compare(marks: Marks, log: LogView, reached: int = 0) -> Compared:
    """Compare the marks of a store with the log that it follows.

    Args:
        marks: read before the log was.
        log: the log.
        reached: the store had the events up to this number, if the log does not know of all yet.
    """
    state, load, position = log.state, marks.load, marks.position
    reached = max(reached, state.applied)

    def result(standing: Standing, detail: str = "") -> Compared:
        return Compared(standing=standing, position=position, detail=detail)

    if load is None:
        if not state.epoch:
            return Compared(standing=Standing.UNMARKED, position=state.applied)
        return result(Standing.UNLOADED, "the online store has no mark of the last materialisation")
    if load.log != state.log:
        return result(Standing.FOREIGN, "the online store was loaded from another workspace's event log")
    if load.epoch != state.epoch:
        if load.epoch == state.pending:
            return result(Standing.FINISHING)
        if load_number(load.epoch) < load_number(state.epoch):
            return result(Standing.UNLOADED, "the online store is as it was before the last materialisation")
        return result(
            Standing.FOREIGN, "the online store was loaded by a materialisation that the event log does not know"
        )
    if position > log.head:
        said = f"the online store has events up to number {position:,}, the event log has {log.head:,}"
        return result(Standing.FOREIGN, said)
    if marks.last is not None and log.event is not None and log.event != marks.last.event:
        said = f"event {position:,} of the event log is another one than the online store has under that number"
        return result(Standing.FOREIGN, said)
    if position < reached:
        said = f"the online store has events up to number {position:,}, and had them up to {reached:,}"
        return result(Standing.BEHIND, said)
    return result(Standing.CURRENT)


def standing_of(settings: Settings, store: "FeatureStore", log: EventLog | None = None) -> Compared:
    """Read the marks of a workspace's store and compare them with its log; creates and changes nothing.

    Args:
        settings: the workspace; without a log it knows of no load.
        store: the feature store.
        log: that of the workspace, if it is open.

    Raises:
        Exception: the online store's own, if it cannot be read.
    """
    there = (
        store.config.online_store.type != "sqlite" or StoreFile(store.config).identity is not None
    )  # reading would create it
    marks = StoreMarks(store).read(store._get_provider().online_store) if there else Marks()
    parts = EventParts(settings.workspace.events)
    if log is not None:
        return compare(marks, LogView.of(log, parts, marks))
    if (found := EventLog.existing(settings)) is None:
        return compare(marks, LogView(state=LogState(applied=0, replay_until=0, reset=0), head=0, event=None))
    with closing(found):
        return compare(marks, LogView.of(found, parts, marks))
