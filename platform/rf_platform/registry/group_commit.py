"""Many changes at once share one transaction, and so one wait for the disk."""

from concurrent.futures import Future
from queue import Empty, SimpleQueue
from threading import Thread
from time import monotonic
from typing import NamedTuple

from rf_platform.errors import RfError
from rf_platform.registry.journal import CatalogJournal, Change, Recorded

MOST = 10_000
"""Changes of one transaction, give or take a batch: they hold up the writers of other processes."""
TRIM_SECONDS = 60.0


class _Batch(NamedTuple):
    changes: list[Change]
    recorded: Future[list[Recorded]]


class GroupCommit:
    """Records batches of changes from a thread of its own; while one transaction is on its way to the disk, the next one gathers.

    It also trims the journal once a minute.
    """

    def __init__(self, journal: CatalogJournal) -> None:
        self._journal = journal
        self._waiting: SimpleQueue[_Batch | None] = SimpleQueue()
        self._thread = Thread(target=self._run, name="rf-journal", daemon=True)
        self._thread.start()

    def submit(self, changes: list[Change]) -> "Future[list[Recorded]]":
        """Record a batch, all or nothing; the result is there when it is on disk.

        The future raises :class:`~rf_platform.errors.UnavailableError` when the registry cannot be used. One that is cancelled
        before its transaction begins is not recorded.
        """
        recorded: Future[list[Recorded]] = Future()
        self._waiting.put(_Batch(changes, recorded))
        return recorded

    def close(self) -> None:
        """Record what was submitted and end the thread."""
        self._waiting.put(None)
        self._thread.join()

    def _run(self) -> None:
        trimmed = monotonic()
        while True:
            group, ended = self._gather()
            if group:
                self._record(group)
            if ended:
                return
            if monotonic() - trimmed > TRIM_SECONDS:
                trimmed = monotonic() if self._trim() == 0 else trimmed

    def _gather(self) -> tuple[list[_Batch], bool]:
        """Wait for a batch and take those that came meanwhile; say whether the end was among them."""
        group: list[_Batch] = []
        try:
            batch = self._waiting.get(timeout=TRIM_SECONDS)
            while batch is not None:
                if batch.recorded.set_running_or_notify_cancel():
                    group.append(batch)
                if sum(len(each.changes) for each in group) >= MOST:
                    return group, False
                batch = self._waiting.get_nowait()
        except Empty:
            return group, False
        return group, True

    def _record(self, group: list[_Batch]) -> None:
        try:
            results = self._journal.record([batch.changes for batch in group])
        except BaseException as error:
            for batch in group:
                batch.recorded.set_exception(error)
        else:
            for batch, result in zip(group, results, strict=True):
                batch.recorded.set_result(result)

    def _trim(self) -> int:
        try:
            return self._journal.trim()
        except RfError:  # the next change tells whoever makes it
            return 0
