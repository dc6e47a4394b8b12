"""Many callers at once share one transaction, and so one wait for the disk."""

from collections.abc import Sequence
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from threading import Thread
from time import monotonic, sleep
from typing import NamedTuple

from rf_platform.data.event_log.event import Event
from rf_platform.data.event_log.log import EventLog

_PAUSE = 0.25
"""Of the time of a transaction, before the next one."""
MOST = 5_000
"""Events of one transaction, give or take a batch: they hold up the writers of other processes."""


class _Batch(NamedTuple):
    events: Sequence[Event]
    recorded: "Future[list[bool]]"


class GroupCommit:
    """Records batches from a thread of its own; while one transaction is on its way to the disk, the next one gathers."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._waiting: SimpleQueue[_Batch | None] = SimpleQueue()
        self._thread = Thread(target=self._run, name="rf-events", daemon=True)
        self._thread.start()

    def submit(self, events: Sequence[Event]) -> "Future[list[bool]]":
        """Record a batch, all or nothing; when the result is there it is on disk.

        The result says of each event whether it is new. The future raises :class:`~rf_platform.errors.UnavailableError` when
        the log cannot be written. One that is cancelled before its transaction begins is not recorded.
        """
        recorded: Future[list[bool]] = Future()
        self._waiting.put(_Batch(events, recorded))
        return recorded

    def close(self) -> None:
        """Record what was submitted and end the thread."""
        self._waiting.put(None)
        self._thread.join()

    def _run(self) -> None:
        ended = False
        while not ended:
            group, ended = self._gather()
            if not group:
                continue
            begin = monotonic()
            try:
                results = self._log.append([batch.events for batch in group])
            except BaseException as error:
                for batch in group:
                    batch.recorded.set_exception(error)
            else:
                for batch, result in zip(group, results, strict=True):
                    batch.recorded.set_result(result)
            if not self._waiting.empty():
                # SQLite's writers try again from time to time: one that never pauses would keep all others out.
                sleep(_PAUSE * (monotonic() - begin))

    def _gather(self) -> tuple[list[_Batch], bool]:
        """Wait for a batch and take those that came meanwhile; say whether the end was among them."""
        group: list[_Batch] = []
        count = 0
        batch = self._waiting.get()
        while batch is not None:
            if batch.recorded.set_running_or_notify_cancel():
                group.append(batch)
                count += len(batch.events)
            if count >= MOST:
                return group, False
            try:
                batch = self._waiting.get_nowait()
            except Empty:
                return group, False
        return group, True
