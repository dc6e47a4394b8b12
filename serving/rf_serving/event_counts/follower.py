"""Thread that follows the event log and keeps the counts of a process."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from threading import Event as Flag
from threading import Thread
from time import perf_counter

import structlog
from prometheus_client import CollectorRegistry, Gauge

from rf_platform.data.event_log import EventLog, EventParts, LoggedEvent, has_clock, read_after
from rf_platform.failures import summary
from rf_platform.features.spec import FeatureSpec
from rf_platform.settings import Settings
from rf_serving.event_counts.counts import Counted, EventCounts
from rf_serving.event_counts.counts_wanted import CountOf, FirstOf
from rf_serving.event_counts.whole_log import whole_log
from rf_serving.threads import start_background

TICK_SECONDS = 0.5
"""Interval at which new events are looked for."""
READ_AT_ONCE = 5000
_RETRY_SECONDS = 5.0


@dataclass(frozen=True, eq=False, kw_only=True)
class LogSource:
    """Places of the interactions of a workspace."""

    log: EventLog
    parts: EventParts
    interactions: Path
    """The imported table, which may be missing."""
    clock: bool
    """See :func:`~rf_platform.data.event_log.has_clock`."""


def log_source(settings: Settings) -> LogSource:
    """Return the interactions of a workspace.

    Raises:
        ConfigError, UnavailableError, CorruptError: the log cannot be opened.
    """
    return LogSource(
        log=EventLog.open(settings),
        parts=EventParts(settings.workspace.events),
        interactions=settings.workspace.tables / "interactions.parquet",
        clock=has_clock(settings),
    )


class CountMetrics:
    """Gauges of the counts of a process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.position = Gauge(
            "rf_event_counts_position",
            "Number of the last event in the counts of lists and co-occurrence.",
            registry=registry,
        )
        self.begin_seconds = Gauge(
            "rf_event_counts_begin_seconds", "Time that the last count of all interactions took.", registry=registry
        )


class CountFollower:
    """Counts all interactions in the background, then the events that come in; every process has its own, and all are equal.

    The tables grow with users and items, so nothing is counted before a list of the policy, or :meth:`ask`, needs it.
    """

    def __init__(
        self,
        source: LogSource,
        registry: CollectorRegistry | None = None,
    ) -> None:
        """Take where interactions are; ``registry``: of the metrics."""
        self._source = source
        self._counts: EventCounts | None = None
        self._basis: tuple[object, ...] = ()
        self.counted: Counted | None = None
        """The newest counts; None until all interactions were counted once. Safe from any thread."""
        self._metrics = CountMetrics(registry or CollectorRegistry())
        self._log = structlog.get_logger("rf_serving")
        self._failing = False
        self._asked, self._ended = Flag(), Flag()
        self._thread: Thread | None = None

    def ask(self) -> Counted | None:
        """Return the newest counts; where nothing is counted yet, counting begins. Safe from any thread."""
        self._asked.set()
        return self.counted

    def follow(self, spec: Callable[[], FeatureSpec], wanted: Callable[[], Collection[CountOf | FirstOf]]) -> None:
        """Count in the background from the moment on at which something is wanted, or was asked for.

        Args:
            spec: of the bundle that answers: it has the meanings of events and the type of ids.
            wanted: counts that lists need; when they change, all is counted anew.
        """
        self._thread = start_background("rf-counts", lambda: self._run(spec, wanted))

    def close(self) -> None:
        """End the thread."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join(10.0)
        self._source.log.close()

    def step(self, spec: FeatureSpec, wanted: Collection[CountOf | FirstOf]) -> int:
        """Count what is new, or all if other things are wanted; return how many new events there were."""
        wanted = frozenset(wanted)
        basis = (spec.meanings, spec.item.id_type, wanted, _version(self._source.interactions))
        if self._counts is None or basis != self._basis:
            self._begin(spec, wanted)
            self._basis = basis
            return 0
        total = 0
        while not self._ended.is_set() and (events := self._read(self._counts.position)):
            self._counts.add(events)
            total += len(events)
            self._publish(self._counts)
        return total

    def _read(self, position: int) -> list[LoggedEvent]:
        source = self._source
        return read_after(source.log, source.parts, position, READ_AT_ONCE)

    def _begin(self, spec: FeatureSpec, wanted: frozenset[CountOf | FirstOf]) -> None:
        begin, counts = perf_counter(), EventCounts(spec.meanings, spec.item.id_type, wanted)
        source = self._source
        with whole_log(
            source.log,
            source.parts,
            source.interactions,
            spec.meanings,
            whole_ids=spec.item.id_type == "int64",
            clock=source.clock,
        ) as log:
            counts.begin(log)
        self._counts = counts
        self._publish(counts)
        seconds = perf_counter() - begin
        self._metrics.begin_seconds.set(seconds)
        self._log.info("events counted", up_to=counts.position, counts=len(wanted), seconds=round(seconds, 3))

    def _publish(self, counts: EventCounts) -> None:
        self.counted = counts.counted()
        self._metrics.position.set(counts.position)

    def _run(self, spec: Callable[[], FeatureSpec], wanted: Callable[[], Collection[CountOf | FirstOf]]) -> None:
        pause = 0.0
        while not self._ended.wait(pause):
            try:
                if (lists := wanted()) or self._asked.is_set():
                    self.step(spec(), lists)
                self._failing, pause = False, TICK_SECONDS
            except Exception as error:  # the log's database, DuckDB and files raise their own classes
                if not self._failing:
                    self._log.warning("events are not counted", error=summary(error), remedy="tried again")
                self._failing, pause = True, _RETRY_SECONDS
                self._counts = None


def _version(table: Path) -> tuple[int, int] | None:
    """Return what tells a table from the one that an import put in its place; None where there is none."""
    try:
        found = table.stat()
    except FileNotFoundError:
        return None
    return found.st_mtime_ns, found.st_ino
