"""Many callers at once share one transaction, and so one wait for the disk."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from threading import Thread
from time import monotonic, sleep
from typing import Generic, NamedTuple, TypeVar

from rf_platform.errors import RfError
from rf_platform.registry.journal import CatalogJournal, Change, Recorded

T = TypeVar("T")
R = TypeVar("R")

MOST = 10_000
"""Changes of one transaction, give or take a batch: they hold up the writers of other processes."""
TRIM_SECONDS = 60.0


class _Batch(NamedTuple, Generic[T, R]):
    rows: Sequence[T]
    recorded: "Future[list[R]]"


class GroupedWrites(Generic[T, R]):
    """Records batches from a thread of its own; while one transaction is on its way to the disk, the next one gathers."""

    def __init__(
        self,
        write: Callable[[list[Sequence[T]]], list[list[R]]],
        *,
        most: int,
        name: str,
        pause: float = 0.0,
        idle: Callable[[], None] = lambda: None,
    ) -> None:
        """Start the thread.

        Args:
            write: records batches in one transaction, and returns what became of each row.
            most: rows of one transaction, give or take a batch.
            name: of the thread.
            pause: before the next transaction, in multiples of the last one's time.
            idle: called after every transaction, and every :data:`TRIM_SECONDS` without one.
        """
        self._write, self._most, self._pause, self._idle = write, most, pause, idle
        self._waiting: SimpleQueue[_Batch[T, R] | None] = SimpleQueue()
        self._thread = Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, rows: Sequence[T]) -> "Future[list[R]]":
        """Record a batch, all or nothing; when the result is there it is on disk.

        The future raises what ``write`` does, :class:`~rf_platform.errors.UnavailableError` when the database cannot be used. One
        that is cancelled before its transaction begins is not recorded.
        """
        recorded: Future[list[R]] = Future()
        self._waiting.put(_Batch(rows, recorded))
        return recorded

    def close(self) -> None:
        """Record what was submitted and end the thread."""
        self._waiting.put(None)
        self._thread.join()

    def _run(self) -> None:
        ended = False
        while not ended:
            group, ended = self._gather()
            begin = monotonic()
            if group:
                self._record(group)
            if group and not self._waiting.empty():
                # SQLite's writers try again from time to time: one that never pauses would keep all others out.
                sleep(self._pause * (monotonic() - begin))
            if not ended:
                self._idle()

    def _gather(self) -> tuple[list[_Batch[T, R]], bool]:
        """Wait for a batch and take those that came meanwhile; say whether the end was among them."""
        group: list[_Batch[T, R]] = []
        count = 0
        try:
            batch = self._waiting.get(timeout=TRIM_SECONDS)
            while batch is not None:
                if batch.recorded.set_running_or_notify_cancel():
                    group.append(batch)
                    count += len(batch.rows)
                if count >= self._most:
                    return group, False
                batch = self._waiting.get_nowait()
        except Empty:
            return group, False
        return group, True

    def _record(self, group: list[_Batch[T, R]]) -> None:
        try:
            results = self._write([batch.rows for batch in group])
        except BaseException as error:
            for batch in group:
                batch.recorded.set_exception(error)
        else:
            for batch, result in zip(group, results, strict=True):
                batch.recorded.set_result(result)


class GroupCommit(GroupedWrites[Change, Recorded]):
    """Records changes of the catalog; it also trims the journal once a minute."""

    def __init__(self, journal: CatalogJournal) -> None:
        self._journal, self._trimmed = journal, monotonic()
        super().__init__(journal.record, most=MOST, name="rf-journal", idle=self._trim)

    def _trim(self) -> None:
        if monotonic() - self._trimmed <= TRIM_SECONDS:
            return
        try:
            more = self._journal.trim() > 0
        except RfError:  # the next change reports it
            more = False
        if not more:
            self._trimmed = monotonic()
