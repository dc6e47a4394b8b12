"""Prometheus metrics of the event intake."""

from collections import Counter as Counts

from prometheus_client import CollectorRegistry, Counter, Gauge

from rf_serving.events.applier import Progress


class EventMetrics:
    """Counters and gauges; safe from any thread."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._recorded = Counter("rf_events", "Events by what became of them.", ["outcome"], registry=registry)
        self._applied = Counter("rf_events_applied", "Events brought into the online store.", registry=registry)
        self._rebuilt = Counter(
            "rf_events_rebuilt", "Histories that were made anew from tables and log.", registry=registry
        )
        self._failed = Counter("rf_events_failed", "Histories that could not be updated.", registry=registry)
        self._behind = Gauge(
            "rf_events_behind_seconds", "Since when events wait for the online store.", registry=registry
        )
        self._leads = Gauge("rf_events_applier", "Whether this process applies the events.", registry=registry)

    def recorded(self, outcomes: "Counts[str]") -> None:
        """Count the events of a request, by outcome."""
        for outcome, count in outcomes.items():
            self._recorded.labels(outcome).inc(count)

    def progress(self, progress: Progress) -> None:
        """Take note of what the applier did."""
        self._applied.inc(progress.events)
        self._rebuilt.inc(progress.rebuilt)
        self._failed.inc(progress.failed)
        self._behind.set(progress.behind_seconds)
        self._leads.set(progress.leads)
