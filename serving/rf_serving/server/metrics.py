"""Prometheus metrics of a server."""

from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server
from prometheus_client.process_collector import ProcessCollector

from rf_platform.errors import UsageError

_BUCKETS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class ServerMetrics:
    """Counters and latency histograms, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._calls = Counter("rf_requests", "Calls by status.", ["method", "status"], registry=self.registry)
        self._seconds = Histogram(
            "rf_request_seconds", "Time of a call in the server.", ["method"], buckets=_BUCKETS, registry=self.registry
        )
        self._stages = Histogram(
            "rf_stage_seconds", "Time of a stage.", ["stage"], buckets=_BUCKETS, registry=self.registry
        )
        self._cold = Counter("rf_cold_answers", "Answers without any history.", registry=self.registry)
        self.active = Gauge("rf_active_requests", "Calls that are being answered.", registry=self.registry)
        self._bundle = Gauge("rf_bundle_info", "The served bundle.", ["bundle", "spec_hash"], registry=self.registry)
        ProcessCollector(registry=self.registry)

    def observe_call(self, method: str, status: str, seconds: float, *, cold: bool) -> None:
        """Count a finished call."""
        self._calls.labels(method, status).inc()
        self._seconds.labels(method).observe(seconds)
        if cold:
            self._cold.inc()

    def observe_stage(self, stage: str, seconds: float) -> None:
        """Count a finished stage; safe from any thread."""
        self._stages.labels(stage).observe(seconds)

    def set_bundle(self, name: str, spec_hash: str) -> None:
        """Say what is served."""
        self._bundle.labels(name, spec_hash).set(1)

    @contextmanager
    def exposed(self, host: str, port: int | None) -> Iterator[int | None]:
        """Answer ``GET /metrics`` on a port while the block runs; None: nowhere. Gives the port (0 chooses one).

        Raises:
            UsageError: the port cannot be used.
        """
        if port is None:
            yield None
            return
        try:
            server, thread = start_http_server(port, host, self.registry)
        except OSError as error:
            raise UsageError(
                f"metrics cannot be exposed on {host}:{port}: {error}; choose another --metrics-port"
            ) from error
        try:
            yield server.server_port
        finally:
            server.shutdown()
            server.server_close()
            thread.join()
