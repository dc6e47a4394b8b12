"""Prometheus metrics of the serving log."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge


class LogMetrics:
    """Counter and gauges; safe from any thread."""

    def __init__(self, registry: CollectorRegistry, waiting: Callable[[], int] = lambda: 0) -> None:
        counter = Counter(
            "rf_logged_answers",
            "Answers for the serving log by outcome: WRITTEN, DROPPED where the queue was full, FAILED where no file could be "
            "written.",
            ["outcome"],
            registry=registry,
        )
        self.written, self.dropped, self.failed = (counter.labels(n) for n in ("WRITTEN", "DROPPED", "FAILED"))
        self.bytes = Gauge("rf_serving_log_bytes", "Size of the files of the serving log.", registry=registry)
        Gauge("rf_serving_log_waiting", "Answers that wait to be written.", registry=registry).set_function(waiting)
