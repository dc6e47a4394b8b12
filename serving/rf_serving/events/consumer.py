"""Consumer of the event log: applies it in order to the online store.

The log is the source of truth: its events reach the online store also after a crash of the process, the store or the machine. One
leader applies events for all processes. When it dies another one takes over, and replays the events that the old leader may have
applied after its last checkpoint: those that were in the log by then, at most as many as a leader gets ahead of its checkpoint.
"""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from threading import Event as Flag
from threading import Thread
from time import monotonic

import structlog

from rf_platform.data.event_log import EventLog, EventParts, LoggedEvent, LogState, StoreFault, read_after
from rf_platform.errors import UnavailableError
from rf_platform.failures import summary
from rf_serving.events.leadership import Leadership
from rf_serving.events.online_history import Applied, OnlineHistory
from rf_serving.events.store_reload import StoreReload
from rf_serving.events.store_watch import StoreWatch, Verdict

BATCH = 500
"""Most events that are applied at once."""
POLL_SECONDS = 0.2
"""Interval at which the leader polls for events of other processes."""
STANDBY_SECONDS = 0.25
"""Interval at which the others try to take the lead."""
_PAUSE, _LONGEST_PAUSE = 0.1, 2.0
_NOTE_SECONDS = 0.1
_MOST_UNNOTED = 10 * BATCH
"""Most events between the applier and its checkpoint: so many may be applied twice after its death."""
_CHECK_SECONDS = 0.5
"""Interval at which the leader checks its lease and looks for a materialisation."""


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Progress of a consumer after each batch."""

    leads: bool
    behind_seconds: float
    """Age of the oldest event that could not be applied for lack of an online store; 0 if there is none."""
    events: int = 0
    """Events that were applied just now."""
    reapplied: int = 0
    """Of those, the ones that the store had had and lost."""
    rebuilt: int = 0
    failed: int = 0
    fault: StoreFault = StoreFault.NONE
    """Known fault of the online store."""
    store_position: int = 0
    """The online store has the events up to this number; 0: this process does not know."""
    log_position: int = 0
    """The newest event; 0: this process did not look."""


class EventConsumer:
    """A thread that applies the log as long as it leads."""

    def __init__(
        self,
        log: EventLog,
        leadership: Leadership,
        open_history: Callable[[], OnlineHistory],
        observe: Callable[[Progress], None] = lambda progress: None,
        went_back: Callable[[StoreFault], None] = lambda fault: None,
        *,
        parts: EventParts,
        reload: StoreReload | None = None,
    ) -> None:
        """Start.

        Args:
            log: what to follow.
            leadership: elects the process that applies.
            open_history: reads the definitions, which may have changed; called by the thread.
            observe: is told about progress, in the thread.
            went_back: is told when the store lost something, in the thread.
            parts: files of the log.
            reload: materialises when the store lost its load; None where the tables are not at hand.
        """
        self._parts = parts
        self._watch = StoreWatch(log, parts, leadership.held, reload, went_back)
        self._log, self._leadership, self._open_history, self._observe = log, leadership, open_history, observe
        self._history: OnlineHistory | None = None
        self._state: LogState | None = None
        self._checked = self._noted = self._watched = 0.0
        self._position = self._head = 0
        self._fault = StoreFault.NONE
        self._reset, self._redo_to = -1, 0
        self._alone_from: float | None = None
        self._waiting_since: float | None = None
        self._stop, self._wake = Flag(), Flag()
        self._logger = structlog.get_logger("rf_serving")
        self._thread = Thread(target=self._run, name="rf-applier", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Wake the thread after an event was recorded here."""
        self._wake.set()

    @property
    def applied(self) -> int | None:
        """The online store has the events up to this number; None where another process leads."""
        return None if self._state is None or self._history is None else self._position

    def close(self) -> None:
        """Finish the batch at hand, let another process lead and end the thread."""
        self._stop.set()
        self._wake.set()
        self._thread.join(10.0)

    def _run(self) -> None:
        with ExitStack() as ending:
            ending.callback(self._leadership.release)
            ending.callback(self._watch.close)
            self._work()
            try:
                if self._state is not None:
                    self._note()
            except Exception as error:  # the next leader replays them
                self._logger.warning("not noted which events were applied", error=summary(error))
            if self._history is not None:
                self._history.forget()

    def _work(self) -> None:
        pause = _PAUSE
        while not self._stop.is_set():
            try:
                leads = self._lead()
                idle = self._step() if leads else True
                pause = _PAUSE
            except Exception as error:  # each store raises its own classes
                self._wait(summary(error))
                self._observe(self._progress(leads=self._state is not None))
                self._stop.wait(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
                continue
            if idle:
                self._observe(self._progress(leads=leads))
                self._wake.wait(POLL_SECONDS if leads else STANDBY_SECONDS)
                self._wake.clear()

    def _lead(self) -> bool:
        """Return whether this process leads; a new leader replays what the last one may have applied after its checkpoint."""
        if self._state is not None and monotonic() < self._checked + _CHECK_SECONDS:
            return True
        try:
            leads = self._leadership.held()
        except Exception:
            self._state = None
            raise
        begins, self._state = self._state is None, self._log.state() if leads else None
        if self._state is None:
            self._follow()
            return False
        self._found(self._state)
        if begins:
            self._redo_to, self._alone_from = 0, monotonic() + self._leadership.lease_grace_seconds
            self._reset = -1
            self._logger.info("applying events", after=self._state.applied)
        if self._state.reset != self._reset:
            self._begin_anew(self._state)
        self._head = self._log.head()
        self._checked = monotonic()
        return True

    def _follow(self) -> None:
        """Take the leader's findings about the store from the log; whether events wait, the leader reports."""
        if monotonic() >= self._checked + _CHECK_SECONDS:
            self._checked = monotonic()
            self._fault, self._head = self._log.state().fault, self._log.head()
        self._waiting_since = None

    def _found(self, state: LogState) -> None:
        if self._fault is not StoreFault.NONE and state.fault is StoreFault.NONE:
            self._logger.info("online store is whole again")
        self._fault = state.fault

    def _begin_anew(self, state: LogState) -> None:
        """Go on from the checkpoint, by the definitions that are registered now."""
        if self._history is not None:
            self._history.forget()
        self._history = self._open_history()
        self._watch.forget()
        self._reset, self._position = state.reset, state.applied

    def _step(self) -> bool:
        """Apply the next batch; return whether there was none."""
        state, history = self._state, self._history
        assert state is not None
        assert history is not None
        events = self._read(state)
        if self._alone_from is not None:
            self._widen_replay_window(state, self._alone_from)
        looks = bool(events) or monotonic() >= self._watched + _CHECK_SECONDS
        if looks and (verdict := self._look(state, history, idle=not events)) is not Verdict.GO_ON:
            if not events:
                self._waiting_since = None
            elif verdict is Verdict.WAIT:
                self._wait(f"it is {self._fault.name.lower()}")
            return True
        if events:
            replay_until = max(state.replay_until, self._redo_to)
            events = [event for event in events if event.sequence <= replay_until] or events
            again = events[0].sequence <= replay_until
            last = events[-1].sequence
            try:
                applied = history.apply(events, again=again)
                self._watch.applied(history, events[-1])
            except Exception:
                self._redo_to = max(self._redo_to, last)  # part of it may be there
                raise
            self._goes_on()
            lost = state.whole_at if state.fault is StoreFault.BEHIND else 0
            self._done(applied, len(events), sum(event.sequence <= lost for event in events))
            self._position = last
        elif looks:
            self._goes_on()
        if self._position - state.applied >= _MOST_UNNOTED or monotonic() >= self._noted + _NOTE_SECONDS:
            self._note()
        return not events

    def _read(self, state: LogState) -> list[LoggedEvent]:
        """Return the next events; only of those that are applied again some may have left SQL."""
        if self._position >= state.replay_until:
            return self._log.read(self._position, BATCH)
        most = _MOST_UNNOTED if state.fault is StoreFault.BEHIND else BATCH
        return read_after(self._log, self._parts, self._position, most)

    def _look(self, state: LogState, history: OnlineHistory, *, idle: bool) -> Verdict:
        """Return whether events may be applied now; if not, the remedy was started."""
        alone = self._alone_from is None
        verdict = self._watch.check(history, state, self._position, alone=alone, idle=idle)
        self._watched = monotonic()
        if verdict is Verdict.BEGIN_ANEW:
            self._redo_to = max(self._redo_to, self._position)
            self._state = self._log.state()
            self._found(self._state)
            self._begin_anew(self._state)
            self._watched = 0.0
        return verdict

    def _widen_replay_window(self, state: LogState, alone_from: float) -> None:
        """Widen the replay window by what the last leader may have applied after its checkpoint, until its lease is over.

        It had read that from the log: no later event is among it.
        """
        alone = monotonic() >= alone_from
        self._redo_to = max(self._redo_to, min(state.applied + _MOST_UNNOTED + BATCH, self._log.head()))
        if alone:
            self._alone_from = None

    def _note(self) -> None:
        """Write a checkpoint: not after each batch, since that is one more wait for the disk."""
        state = self._state
        assert state is not None
        if self._position == state.applied:
            return
        try:
            noted = self._log.advance(state, self._position)
        except UnavailableError:
            if self._position - state.applied >= _MOST_UNNOTED:
                raise
            return  # others are writing; the next time will do
        self._noted = monotonic()
        if noted is not None:
            self._state = noted
            self._found(noted)
        else:  # a materialisation came in between
            self._state = self._log.state()
            self._begin_anew(self._state)

    def _progress(self, *, leads: bool) -> Progress:
        return Progress(
            leads=leads,
            behind_seconds=0.0 if self._waiting_since is None else monotonic() - self._waiting_since,
            fault=self._fault,
            store_position=self._watch.position if leads else 0,
            log_position=self._head,
        )

    def _done(self, applied: Applied, events: int, reapplied: int) -> None:
        progress = replace(self._progress(leads=True), events=events, reapplied=reapplied)
        self._observe(replace(progress, rebuilt=applied.rebuilt, failed=applied.failed))
        self._logger.debug("events applied", after=self._position, events=events, rebuilt=applied.rebuilt)

    def _wait(self, why: str) -> None:
        if self._waiting_since is None:
            self._waiting_since = monotonic()
            self._logger.warning("events wait for the online store", error=why)

    def _goes_on(self) -> None:
        if self._waiting_since is not None:
            seconds = round(monotonic() - self._waiting_since, 1)
            self._waiting_since = None
            self._logger.info("events are applied again", after_seconds=seconds)
