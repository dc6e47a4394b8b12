"""Circuit breaker: a store or engine that keeps failing is left alone for a while, so that requests do not wait in vain."""

from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic


@dataclass(frozen=True, kw_only=True)
class BreakerOptions:
    """Thresholds of the circuit breaker."""

    failures: int = 3
    """Failures in a row that open the circuit."""
    pause: float = 0.5
    """Seconds until a request is let through again, to see whether the store is back; doubled whenever it is not."""
    longest_pause: float = 5.0
    """Most seconds between two such attempts."""


class Breaker:
    """Circuit breaker of a store or engine; used from one thread only.

    Closed: all requests ask it. Open: none does. Half-open: one request probes; its success closes the circuit.
    """

    def __init__(
        self,
        options: BreakerOptions | None = None,
        changed: Callable[[bool], None] = lambda is_open: None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        """Start closed.

        Args:
            options: when to give up.
            changed: is told when the circuit opens (True) and closes.
            clock: seconds.
        """
        self._options, self._changed, self._clock = options or BreakerOptions(), changed, clock
        self._failures = 0
        self._pause = self._options.pause
        self._probe_at: float | None = None

    @property
    def is_open(self) -> bool:
        """Whether what is asked counts as down."""
        return self._probe_at is not None

    def allows(self) -> bool:
        """Return whether this request may ask; while the circuit is open, it is then the probe."""
        if self._probe_at is None:
            return True
        now = self._clock()
        if now < self._probe_at:
            return False
        self._probe_at = now + self._pause  # the next probe, should this one never report
        return True

    def succeeded(self) -> None:
        """Note that there was an answer in time."""
        self._failures, self._pause = 0, self._options.pause
        if self._probe_at is not None:
            self._probe_at = None
            self._changed(False)

    def failed(self) -> None:
        """Note that there was none."""
        self._failures += 1
        if self._probe_at is not None:
            self._pause = min(2 * self._pause, self._options.longest_pause)
            self._probe_at = self._clock() + self._pause
        elif self._failures >= self._options.failures:
            self._probe_at = self._clock() + self._pause
            self._changed(True)
