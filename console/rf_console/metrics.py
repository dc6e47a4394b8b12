"""Metrics of the server: rates and latencies between two reads of its Prometheus page."""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from threading import Lock
from time import monotonic, time
from urllib.error import URLError
from urllib.request import urlopen

from prometheus_client.parser import text_string_to_metric_families

from rf_platform.errors import UnavailableError

_LEAST_SECONDS = 1.0
"""Reads are at least so far apart, however many look at them: the server is not kept busy by the console."""
_READ_SECONDS, _MOST_BYTES = 2.0, 8 * 1024 * 1024
_KEPT = 300

Labels = tuple[tuple[str, str], ...]
Samples = Mapping[tuple[str, Labels], float]


@dataclass(frozen=True)
class Latency:
    """Calls of a method, or of a stage, between two reads."""

    name: str
    rate: float
    """Calls a second."""
    p50: float
    p95: float
    p99: float
    """Quantiles of the time in seconds, interpolated within the histogram's buckets; NaN without calls."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """State of the server between the read before and this one."""

    at: float
    """Seconds since 1970."""
    seconds: float
    """Time between the two; of the first read, since the server's start."""
    methods: Sequence[Latency] = ()
    stages: Sequence[Latency] = ()
    errors: Mapping[str, float] = field(default_factory=dict)
    """Calls a second by status, without those that went well."""
    samples: Samples = field(default_factory=dict)

    def value(self, name: str) -> float | None:
        """Return the sum of a metric over its labels; None: the server does not have it."""
        found = [value for (each, _), value in self.samples.items() if each == name]
        return sum(found) if found else None

    @property
    def rate(self) -> float:
        """All calls a second."""
        return sum(each.rate for each in self.methods)


class MetricsReader:
    """Reads the metrics of a server when somebody looks; safe from any thread.

    Args:
        url: of its metrics.
        clock: seconds that never go back.
    """

    def __init__(self, url: str, clock: Callable[[], float] = monotonic) -> None:
        self._url, self._clock, self._lock = url, clock, Lock()
        self._before: tuple[float, Samples] | None = None
        self._reading: tuple[float, Reading] | None = None
        self._history: deque[tuple[float, float, float]] = deque(maxlen=_KEPT)

    def now(self) -> Reading:
        """Return the state now, or that of a moment ago.

        Raises:
            UnavailableError: the metrics cannot be read.
        """
        with self._lock:
            if self._reading is not None and self._clock() < self._reading[0] + _LEAST_SECONDS:
                return self._reading[1]
            samples, at = read_samples(self._fetch()), self._clock()
            reading = _between(self._before, at, samples)
            self._before, self._reading = (at, samples), (at, reading)
            retrieve = next((each for each in reading.methods if each.name.endswith("Retrieve")), None)
            self._history.append((reading.at, reading.rate, retrieve.p99 if retrieve else float("nan")))
            return reading

    def history(self) -> list[tuple[float, float, float]]:
        """Return the latest reads: seconds since 1970, calls a second, p99 of Retrieve in seconds."""
        with self._lock:
            return list(self._history)

    def _fetch(self) -> str:
        try:
            with urlopen(self._url, timeout=_READ_SECONDS) as answer:
                return str(answer.read(_MOST_BYTES).decode("utf-8", "replace"))
        except (URLError, OSError, ValueError) as error:
            raise UnavailableError(
                f"the metrics of the server cannot be read at {self._url}; start it with `rf serve --metrics-port`"
            ) from error


def read_samples(text: str) -> Samples:
    """Return the samples of a page of metrics, by name and labels.

    Raises:
        UnavailableError: it is none.
    """
    try:
        return {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }
    except ValueError as error:
        raise UnavailableError(f"this is no page of metrics: {error}; check --metrics") from error


def _between(before: tuple[float, Samples] | None, at: float, samples: Samples) -> Reading:
    """Return the state between two reads; a server that was started anew in between counts from zero."""
    old: Samples = before[1] if before is not None else {}
    started = samples.get(("process_start_time_seconds", ()))
    if before is not None and old.get(("process_start_time_seconds", ())) == started:
        seconds = max(at - before[0], 1e-3)
    else:
        old, seconds = {}, max(time() - started, 1e-3) if started else float("nan")
    rose = {key: value - old.get(key, 0.0) for key, value in samples.items()}
    errors: dict[str, float] = {}
    for (name, labels), value in rose.items():
        status = dict(labels).get("status", "OK")
        if name == "rf_requests_total" and status != "OK" and value > 0:
            errors[status] = errors.get(status, 0.0) + value / seconds
    return Reading(
        at=time(),
        seconds=seconds,
        methods=_latencies(rose, "rf_request_seconds", "method", seconds),
        stages=_latencies(rose, "rf_stage_seconds", "stage", seconds),
        errors=errors,
        samples=samples,
    )


def _latencies(rose: Samples, name: str, label: str, seconds: float) -> list[Latency]:
    buckets: dict[str, list[tuple[float, float]]] = {}
    for (each, labels), value in rose.items():
        if each == f"{name}_bucket":
            found = dict(labels)
            buckets.setdefault(found.get(label, ""), []).append((float(found["le"]), value))
    latencies = []
    for key, counts in buckets.items():
        counts.sort()
        latencies.append(
            Latency(key, counts[-1][1] / seconds, *(quantile(counts, share) for share in (0.5, 0.95, 0.99)))
        )
    return latencies


def quantile(counts: Sequence[tuple[float, float]], share: float) -> float:
    """Return a quantile of a histogram, interpolated within its bucket; NaN without values.

    Args:
        counts: upper bound of each bucket, rising, and how many values are at most that.
        share: 0 to 1.
    """
    wanted, low, below = share * counts[-1][1], 0.0, 0.0
    if not counts[-1][1]:
        return float("nan")
    for bound, count in counts:
        if count >= wanted and count > below:
            return low if bound == float("inf") else low + (bound - low) * (wanted - below) / (count - below)
        low, below = bound, count
    return low
