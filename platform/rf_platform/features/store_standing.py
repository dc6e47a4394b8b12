"""Comparison of an online store's marks with the event log: whether the store has what it had, and belongs here at all."""

from contextlib import closing
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from rf_platform.data.event_log import EventLog, LogState, load_number, read_after
from rf_platform.data.event_log.parts import EventParts
from rf_platform.features.online_table import StoreFile
from rf_platform.features.store_marks import Marks, StoreMarks, digest_of
from rf_platform.settings import Settings

if TYPE_CHECKING:
    from feast import FeatureStore


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
    """What is wrong, as a sentence; empty if nothing is."""


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
