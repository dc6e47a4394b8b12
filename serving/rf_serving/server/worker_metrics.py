"""The metrics of all workers on one page, each sample with the label ``worker``."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from http.client import HTTPConnection, HTTPException

from prometheus_client import CollectorRegistry, Counter, Gauge, Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

_WAIT_SECONDS = 2.0


class WorkerMetrics(Collector):
    """Asks every worker whenever it is asked."""

    def __init__(self, ports: Callable[[], Mapping[int, int]]) -> None:
        """Prepare.

        Args:
            ports: where the metrics of each worker are, on this machine, by the worker's number.
        """
        self._ports = ports
        self.registry = CollectorRegistry()
        self.registry.register(self)
        self.workers = Gauge("rf_workers", "Workers that answer.", registry=self.registry)
        self.restarts = Counter(
            "rf_worker_restarts", "Workers that ended and were started again.", registry=self.registry
        )

    def describe(self) -> list[Metric]:
        """Name nothing in advance: no worker answers yet when this is registered."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield the families of all workers, merged; a worker that does not answer is left out."""
        families: dict[str, Metric] = {}
        for worker, port in sorted(self._ports().items()):
            try:
                text = _page(port)
            except (OSError, HTTPException):
                continue
            for family in text_string_to_metric_families(text):
                merged = families.setdefault(family.name, Metric(family.name, family.documentation, family.type))
                for sample in family.samples:
                    merged.samples.append(sample._replace(labels={**sample.labels, "worker": str(worker)}))
        yield from families.values()


def _page(port: int) -> str:
    """Read the metrics page of a worker, never through a proxy."""
    with closing(HTTPConnection("127.0.0.1", port, timeout=_WAIT_SECONDS)) as connection:
        connection.request("GET", "/metrics")
        return connection.getresponse().read().decode()
