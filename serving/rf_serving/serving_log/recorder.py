"""Recorder of the serving log: a bounded queue, and a thread that writes what is in it to files."""

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from threading import Event, Lock, Thread
from time import monotonic

import pyarrow as pa
import structlog
from prometheus_client import CollectorRegistry

from rf_platform.features.expiry import now_us
from rf_platform.serving_log import ServingParts
from rf_serving.retrieval.routing import Routing
from rf_serving.serving_log.answered import Answered
from rf_serving.serving_log.columns import records
from rf_serving.serving_log.metrics import LogMetrics

_AT_ONCE = 128
"""Answers made into columns together: some milliseconds, in which the event loop may wait for the interpreter."""
_BREATH_SECONDS = 0.002
_RETENTION_SECONDS = 600.0
_TELL_SECONDS = 60.0


@dataclass(frozen=True, kw_only=True)
class LogOptions:
    """Options of the recorder."""

    share: float = 0.0
    """Share of the answers that are recorded; all are while a challenger has a part of the users."""
    waiting: int = 20_000
    """Most answers that wait to be written; more are dropped, and counted."""
    seconds: float = 30.0
    """Longest time until an answer is in a file."""
    rows: int = 20_000
    """Most records of a file."""
    days: float = 30.0
    """Age up to which files stay."""
    megabytes: int = 4096
    """MiB of all files up to which the oldest stay."""


class Recorder:
    """Records answers; :meth:`offer` is called in the event loop, and neither waits nor fails.

    The thread is started by the first answer, so a server that records nothing has none.
    """

    def __init__(
        self,
        parts: ServingParts,
        options: LogOptions,
        registry: CollectorRegistry,
        forgotten: Callable[[pa.Table], pa.Table] = lambda table: table,
    ) -> None:
        """Begin without answers.

        Args:
            parts: the files.
            options: what is recorded, and for how long.
            registry: of the metrics.
            forgotten: returns records without those of users who were forgotten since.
        """
        self._parts, self._options, self._forgotten = parts, options, forgotten
        self.share = options.share
        """Share of the answers that are recorded while no challenger has users."""
        self._waiting: deque[Answered] = deque()
        self._thread: Thread | None = None
        self._closing, self._starting = Event(), Lock()
        self._metrics = LogMetrics(registry, lambda: len(self._waiting))
        self._log = structlog.get_logger("rf_serving")
        self._batches: list[pa.Table] = []
        self._rows, self._since, self._cleaned, self._told = 0, 0.0, 0.0, 0.0

    def wants(self, routing: Routing) -> bool:
        """Whether an answer by this routing is to be offered."""
        return routing.challenger is not None or random.random() < self.share

    def offer(self, answered: Answered) -> None:
        """Take an answer, or drop it if too many wait."""
        if len(self._waiting) >= self._options.waiting:
            self._metrics.dropped.inc()
            return
        self._waiting.append(answered)
        if self._thread is None:
            self._start()

    def close(self) -> None:
        """Write what waits, and end the thread."""
        self._closing.set()
        if self._thread is not None:
            self._thread.join()

    def _start(self) -> None:
        with self._starting:
            if self._thread is None:
                self._since = monotonic()
                self._thread = Thread(target=self._run, name="rf-serving-log", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        while True:
            closing = self._closing.is_set()
            while self._waiting:
                self._collect()
                if self._rows >= self._options.rows:
                    self._flush()
                if not closing:
                    self._closing.wait(_BREATH_SECONDS)
            if closing or monotonic() - self._since >= self._options.seconds:
                self._flush()
            if closing:
                return
            self._closing.wait(min(0.25, self._options.seconds))

    def _collect(self) -> None:
        """Make columns of some answers, by FeatureSpec."""
        some = [self._waiting.popleft() for _ in range(min(_AT_ONCE, len(self._waiting)))]
        by_spec: dict[int, list[Answered]] = {}
        for each in some:
            by_spec.setdefault(id(each.spec), []).append(each)
        for group in by_spec.values():
            try:
                self._batches.append(records(group, group[0].spec))
            except Exception as error:  # a bug; the others are written
                self._fail(len(group), error)
                continue
            self._rows += len(group)

    def _flush(self) -> None:
        """Write a file for each FeatureSpec, and remove what retention does not keep."""
        batches, self._batches, self._rows, self._since = self._batches, [], 0, monotonic()
        by_spec: dict[str, list[pa.Table]] = {}
        for batch in batches:
            by_spec.setdefault(batch["spec_hash"][0].as_py(), []).append(batch)
        for group in by_spec.values():
            try:
                table = self._forgotten(pa.concat_tables(group))
                if table.num_rows:
                    self._parts.add(table)
                self._metrics.written.inc(table.num_rows)
            except Exception as error:  # the disk is full, or closed; or the list of the forgotten cannot be read
                self._fail(sum(map(len, group)), error)
        if batches and monotonic() - self._cleaned >= _RETENTION_SECONDS:
            self._cleaned = monotonic()
            try:
                self._clean()
            except Exception as error:  # the thread goes on, and tries again
                self._fail(0, error)

    def _clean(self) -> None:
        options = self._options
        gone = self._parts.expired(days=options.days, megabytes=options.megabytes, now_us=now_us())
        self._parts.remove(gone)
        self._metrics.bytes.set(sum(part.bytes for part in self._parts.parts()))

    def _fail(self, count: int, error: Exception) -> None:
        self._metrics.failed.inc(count)
        if (now := monotonic()) - self._told >= _TELL_SECONDS or not self._told:
            self._told = now
            self._log.warning("answers not logged", answers=count, cause=str(error), exc_info=error)
