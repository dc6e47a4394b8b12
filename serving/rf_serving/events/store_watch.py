"""Watch over the online store that the applier writes to: that it still has what was written, before more is written on top."""

from collections.abc import Callable
from enum import Enum
from time import time_ns
from typing import Any

import structlog

from rf_platform.data.event_log import EventLog, EventParts, LoggedEvent, LogState, StoreFault, has_all_after
from rf_platform.failures import summary
from rf_platform.features.store_marks import (
    AppliedMark,
    Compared,
    LoadMark,
    LogView,
    Marks,
    Standing,
    compare,
    digest_of,
)
from rf_serving.events.online_history import OnlineHistory
from rf_serving.events.store_reload import StoreReload


class Verdict(Enum):
    """Decision on the next step of the consumer."""

    GO_ON = "go on"
    WAIT = "wait"
    """Apply nothing for now."""
    BEGIN_ANEW = "begin anew"
    """The state of the log is another one: read it."""


class StoreWatch:
    """Compares the marks of the store with the log, puts right what can be, and keeps the marks; for the applier's thread."""

    def __init__(
        self,
        log: EventLog,
        parts: EventParts,
        leads: Callable[[], bool],
        reload: StoreReload | None = None,
        went_back: Callable[[StoreFault], None] = lambda fault: None,
    ) -> None:
        """Start without knowing anything of the store.

        Args:
            log: what the store follows.
            parts: its files.
            leads: makes sure that no other process applies events.
            reload: materialises; None where the tables are not at hand.
            went_back: is told about each incident, once.
        """
        self._event_log, self._parts, self._leads = log, parts, leads
        self._reload, self._went_back = reload, went_back
        self._expected: Marks | None = None
        self._unmarked = False
        self._log = structlog.get_logger("rf_serving")

    @property
    def position(self) -> int:
        """All events up to this number were in the store when it was last looked at; 0 if it is not known."""
        return self._expected.position if self._expected is not None else 0

    def forget(self) -> None:
        """Compare anew before more is written."""
        self._expected = None

    def close(self) -> None:
        """End a materialisation that was begun here."""
        if self._reload is not None:
            self._reload.close()

    def check(
        self, history: OnlineHistory, state: LogState, reached: int, *, alone: bool = True, idle: bool = False
    ) -> Verdict:
        """Look at the marks.

        Args:
            history: has the connection.
            state: of the log.
            reached: events up to this number were applied here.
            alone: whether the process that led before is certainly gone.
            idle: whether no event waits: then a store that is down is no failure.

        Raises:
            Exception: the store's own, and the log's.
        """
        if self._reload is not None:
            self._reload.look()
        try:
            marks = history.marks()
        except Exception:  # each store raises its own classes
            if idle:
                return Verdict.WAIT
            raise
        if marks == self._expected:
            return self._make_good(state)
        known, self._expected = self._expected, None
        fresh = self._event_log.state()
        if fresh != state:
            return Verdict.BEGIN_ANEW
        state = fresh  # a materialisation that has begun makes it no other one, but it is in there
        view = LogView.of(self._event_log, self._parts, marks, state)
        compared = compare(marks, view, 0 if known is None else reached)
        if compared.standing is Standing.BEHIND and not has_all_after(self._event_log, self._parts, compared.position):
            lost = f"{compared.detail}; what is missing lies in files that are not at hand here"
            compared = Compared(standing=Standing.UNLOADED, position=compared.position, detail=lost)
        match compared.standing:
            case Standing.CURRENT:
                if state.fault in (StoreFault.UNLOADED, StoreFault.FOREIGN):
                    lacks = state.applied < state.whole_at  # it was being given what it had lost before
                    self._event_log.note_fault(state, StoreFault.BEHIND if lacks else StoreFault.NONE)
                    return Verdict.BEGIN_ANEW
                self._begin(history, marks, compared.position)
                return Verdict.GO_ON
            case Standing.UNMARKED:
                return self._adopt(history, state)
            case Standing.FINISHING:
                assert marks.load is not None
                self._event_log.materialized(marks.load.sealed, marks.load.epoch)
                return Verdict.BEGIN_ANEW
            case Standing.BEHIND:
                self._take_back(state, compared, max(reached, state.applied), alone)
            case Standing.UNLOADED:
                self._say(state, StoreFault.UNLOADED, compared)
                if self._reload is not None:
                    self._reload.start()
            case Standing.FOREIGN:
                self._say(state, StoreFault.FOREIGN, compared)
        return Verdict.WAIT if self._event_log.state() == state else Verdict.BEGIN_ANEW

    def applied(self, history: OnlineHistory, last: LoggedEvent) -> None:
        """Mark the events up to one as applied: their rows are there."""
        known = self._expected
        if known is None or known.load is None:
            return
        mark = AppliedMark(known.load.epoch, known.next_number, last.sequence, digest_of(last))
        self._expected = None  # until it is written for certain
        history.mark_applied(mark)
        self._expected = Marks(known.load, (known.applied[-1], mark))

    def _make_good(self, state: LogState) -> Verdict:
        """Go on, unless a materialisation was killed: its rows may have overwritten those of later events."""
        if state.loading < 0 or self._reload is None or self._reload.elsewhere:
            return Verdict.GO_ON
        self._event_log.materialized(state.loading)
        self._log.warning("materialisation did not end", answer="the events since it began are applied again")
        return Verdict.BEGIN_ANEW

    def _begin(self, history: OnlineHistory, marks: Marks, position: int) -> None:
        """Write both marks anew, so that it is known what is there."""
        assert marks.load is not None
        event = marks.last.event if marks.last is not None and marks.last.position == position else 0
        # By the clock: a copy of the store from before may have marks with the next numbers.
        number = max(marks.next_number, time_ns() // 1000)
        pair = tuple(AppliedMark(marks.load.epoch, n, position, event) for n in (number, number + 1))
        history.mark_applied(*pair)
        self._expected = Marks(marks.load, pair)

    def _adopt(self, history: OnlineHistory, state: LogState) -> Verdict:
        """Write marks to a store that has none: its content now counts as complete."""
        if self._unmarked or (self._reload is not None and self._reload.elsewhere):
            return Verdict.GO_ON
        try:
            history.create_marks()
        except Exception as error:  # each store raises its own classes
            self._unmarked = True
            remedy = "`rf features materialize`; until then it is not noticed if the store goes back in time"
            self._log.warning("online store has no marks", error=summary(error), remedy=remedy)
            return Verdict.GO_ON
        epoch = self._event_log.loading(state.applied)
        history.mark_load(LoadMark(state.log, epoch, state.applied))
        self._event_log.materialized(state.applied, epoch)
        return Verdict.BEGIN_ANEW

    def _take_back(self, state: LogState, compared: Compared, whole_at: int, alone: bool) -> None:
        """Set the log back, so that events that the store lost are replayed."""
        if self._leads() and self._event_log.rewind(state, compared.position, whole_at) and alone:
            # Else it may be that two processes wrote marks.
            self._went_back(StoreFault.BEHIND)
            self._tell(StoreFault.BEHIND, compared, answer="the missing events are applied again")

    def _say(self, state: LogState, fault: StoreFault, compared: Compared) -> None:
        if state.fault is fault or not self._leads() or not self._event_log.note_fault(state, fault):
            return
        self._went_back(fault)
        if fault is StoreFault.FOREIGN:
            answer = (
                "no events are applied; attach the right store, restore the newer event log, or make this store follow this "
                "log: `rf features materialize`"
            )
        elif self._reload is None:
            answer = "no events are applied until it is loaded: run `rf features materialize` where the tables are"
        else:
            answer = "no events are applied until it is loaded, which begins now"
        self._tell(fault, compared, answer=answer)

    def _tell(self, fault: StoreFault, compared: Compared, **more: Any) -> None:
        tell = self._log.error if fault is StoreFault.FOREIGN else self._log.warning
        tell("online store went back", fault=fault.name.lower(), detail=compared.detail, **more)
