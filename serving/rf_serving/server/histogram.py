"""A Prometheus histogram that many equal values are added to at once."""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import accumulate
from threading import Lock

from prometheus_client.core import HistogramMetricFamily, Metric
from prometheus_client.registry import Collector, CollectorRegistry


class Histogram(Collector):
    """Histogram with one label, safe from any thread.

    The client library's own one takes a value at a time and a lock for each of its numbers: with a dozen values a request that
    is more than the search for the request's user.
    """

    def __init__(
        self, name: str, documentation: str, label: str, bounds: Sequence[float], registry: CollectorRegistry
    ) -> None:
        """Begin without values.

        Args:
            name: of the metric.
            documentation: its help text.
            label: name of the label.
            bounds: upper bounds of the buckets, rising; one without a bound is added.
            registry: to be registered with.
        """
        self._name, self._documentation, self._label, self._bounds = name, documentation, label, list(bounds)
        self._counts: dict[str, list[int]] = {}
        self._sums: dict[str, float] = {}
        self._lock = Lock()
        registry.register(self)

    def observe(self, label: str, value: float, count: int = 1) -> None:
        """Add a value, ``count`` times."""
        place = bisect_left(self._bounds, value)
        with self._lock:
            if (counts := self._counts.get(label)) is None:
                counts = self._counts[label] = [0] * (len(self._bounds) + 1)
                self._sums[label] = 0.0
            counts[place] += count
            self._sums[label] += value * count

    def collect(self) -> Iterator[Metric]:
        """Yield the metric, as Prometheus reads it."""
        family = HistogramMetricFamily(self._name, self._documentation, labels=[self._label])
        bounds = [*map(str, self._bounds), "+Inf"]
        with self._lock:
            held = [(label, list(counts), self._sums[label]) for label, counts in self._counts.items()]
        for label, counts, total in held:
            family.add_metric([label], list(zip(bounds, accumulate(counts), strict=True)), total)
        yield family
