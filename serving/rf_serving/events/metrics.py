"""Prometheus metrics of the event intake."""

from collections import Counter as Counts

from prometheus_client import CollectorRegistry, Counter, Gauge

from rf_platform.data.event_log import StoreFault
from rf_serving.events.consumer import Progress


class EventMetrics:
    """Counters and gauges; safe from any thread."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._recorded = Counter(
            "rf_events", "Events by outcome: RECORDED, DUPLICATE, REJECTED.", ["outcome"], registry=registry
        )
        self._applied = Counter("rf_events_applied", "Events brought into the online store.", registry=registry)
        self._rebuilt = Counter(
            "rf_events_rebuilt", "Histories that were made anew from tables and log.", registry=registry
        )
        self._failed = Counter("rf_events_failed", "Histories that could not be updated.", registry=registry)
        self._behind = Gauge(
            "rf_events_behind_seconds", "Since when events wait for the online store.", registry=registry
        )
        self._reapplied = Counter(
            "rf_events_reapplied",
            "Events that the online store had and lost, brought into it again.",
            registry=registry,
        )
        self._went_back = Counter(
            "rf_store_resets",
            "How often the online store had lost something, by what it was.",
            ["fault"],
            registry=registry,
        )
        self._fault = Gauge(
            "rf_store_fault",
            "What is wrong with the online store: 0 nothing, 1 behind, 2 unloaded, 3 foreign.",
            registry=registry,
        )
        self._positions = Gauge(
            "rf_events_position",
            "Number of the newest event, in the log and in the online store as the applier knows it.",
            ["of"],
            registry=registry,
        )
        self._first = Counter(
            "rf_first_events",
            "Events of new and rare items: NOTED, or SKIPPED where there were too many at once.",
            ["outcome"],
            registry=registry,
        )
        self._leads = Gauge("rf_events_applier", "1 in the process that applies the events.", registry=registry)

    def recorded(self, outcomes: "Counts[str]") -> None:
        """Count the events of a request, by outcome."""
        for outcome, count in outcomes.items():
            self._recorded.labels(outcome).inc(count)

    def first_events(self, *, noted: int, skipped: int) -> None:
        """Count events that items learn from, and those that they might have learned from."""
        self._first.labels("NOTED").inc(noted)
        self._first.labels("SKIPPED").inc(skipped)

    def went_back(self, fault: StoreFault) -> None:
        """Count a loss of the online store."""
        self._went_back.labels(fault.name.lower()).inc()

    def progress(self, progress: Progress) -> None:
        """Record the progress of the consumer."""
        self._applied.inc(progress.events)
        self._rebuilt.inc(progress.rebuilt)
        self._failed.inc(progress.failed)
        self._reapplied.inc(progress.reapplied)
        self._behind.set(progress.behind_seconds)
        self._fault.set(progress.fault)
        self._positions.labels("log").set(progress.log_position)
        self._positions.labels("store").set(progress.store_position)
        self._leads.set(progress.leads)
