"""Prometheus metrics of a server."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import cache

from prometheus_client import CollectorRegistry, Counter, Gauge, start_http_server
from prometheus_client.process_collector import ProcessCollector

from rf_platform.errors import UsageError
from rf_serving.server.histogram import Histogram
from rf_serving.server.shared_port import joined

_BUCKETS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class ServerMetrics:
    """Counters and latency histograms, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._calls = Counter("rf_requests", "Calls by status.", ["method", "status"], registry=self.registry)
        self._seconds = Histogram(
            "rf_request_seconds",
            "Time of a call in the server, waiting included.",
            "method",
            _BUCKETS,
            self.registry,
        )
        self._stages = Histogram(
            "rf_stage_seconds",
            "Time of a stage: fetch, queue, encode, search, filter, rerank, explain.",
            "stage",
            _BUCKETS,
            self.registry,
        )
        self._cold = Counter("rf_cold_answers", "Answers without any history.", registry=self.registry)
        self.active = Gauge("rf_active_requests", "Calls that are being answered.", registry=self.registry)
        self._degraded = Counter(
            "rf_degraded_answers",
            "Answers for users with features that could not be read, or are not what they were; the reply has the reason.",
            registry=self.registry,
        )
        self._shed = Counter(
            "rf_shed_requests", "Calls refused because there was too much to do.", ["method"], registry=self.registry
        )
        self._answers = Counter("rf_answers", "Answers by bundle.", ["bundle"], registry=self.registry)
        self._paths = Counter(
            "rf_answer_paths",
            "Answers by path: quick, full (filters, long lists, re-ranking, explanations), degraded, or similar.",
            ["path"],
            registry=self.registry,
        )
        self.limit = Gauge(
            "rf_request_limit", "Reading calls that are answered at once, at most.", registry=self.registry
        )
        self.connections = Gauge(
            "rf_connections", "Connections of clients, with --front http2.", registry=self.registry
        )
        self.refused_connections = Counter(
            "rf_refused_connections",
            "Connections closed because there were too many, with --front http2 or to --http-port.",
            registry=self.registry,
        )
        self.http_connections = Gauge("rf_http_connections", "Connections to --http-port.", registry=self.registry)
        self.store_down = Gauge(
            "rf_store_down", "1 while the online store is not asked, because it failed.", registry=self.registry
        )
        self._certificate: Gauge | None = None  # not there without TLS
        ProcessCollector(registry=self.registry)
        # Looking a metric up by its labels costs more than counting.
        self._call, self._answer, self._path = (
            cache(each.labels) for each in (self._calls, self._answers, self._paths)
        )

    def certificate_ends(self, ends: datetime) -> None:
        """Set the expiry of the certificate in use."""
        if self._certificate is None:
            self._certificate = Gauge(
                "rf_certificate_ends_timestamp_seconds",
                "When the certificate that is shown expires, seconds since 1970.",
                registry=self.registry,
            )
        self._certificate.set(ends.timestamp())

    def observe_call(self, method: str, status: str, seconds: float, *, cold: bool, degraded: bool) -> None:
        """Count a finished call."""
        self._call(method, status).inc()
        self._seconds.observe(method, seconds)
        if cold:
            self._cold.inc()
        if degraded:
            self._degraded.inc()

    def observe_shed(self, method: str) -> None:
        """Count a call that was refused for want of time."""
        self._call(method, "RESOURCE_EXHAUSTED").inc()
        self._shed.labels(method).inc()

    def observe_answer(self, bundle: str, path: str) -> None:
        """Count an answer of a bundle, and the path that it was made on."""
        self._answer(bundle).inc()
        self._path(path).inc()

    def observe_stage(self, stage: str, seconds: float, requests: int = 1) -> None:
        """Count a finished stage of so many requests; safe from any thread."""
        self._stages.observe(stage, seconds, requests)


@contextmanager
def exposed(registry: CollectorRegistry, host: str, port: int | None) -> Iterator[int | None]:
    """Answer ``GET /metrics`` on a port while the block runs; None: nowhere. Gives the port (0 chooses one).

    Raises:
        UsageError: the port cannot be used.
    """
    if port is None:
        yield None
        return
    try:
        server, thread = start_http_server(port, host.strip("[]"), registry)
    except OSError as error:
        raise UsageError(
            f"metrics cannot be exposed on {joined(host, port)}: {error}; choose another --metrics-port"
        ) from error
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
