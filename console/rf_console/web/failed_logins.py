"""Limit of failed logins, by address."""

from collections import OrderedDict, deque
from collections.abc import Callable
from time import monotonic

_MOST_ADDRESSES = 10_000


class FailedLogins:
    """Counts failed logins of each address. Used from the event loop only.

    Args:
        most: failures of one address within ``seconds``.
        seconds: how long a failure counts.
        clock: the time.
    """

    def __init__(self, most: int = 5, seconds: float = 60.0, clock: Callable[[], float] = monotonic) -> None:
        self._most, self._seconds, self._clock = most, seconds, clock
        self._failed: OrderedDict[str, deque[float]] = OrderedDict()

    def wait(self, address: str) -> float:
        """Return the seconds until an address may try again; 0: now."""
        failed = self._failed.get(address)
        while failed and failed[0] <= self._clock() - self._seconds:
            failed.popleft()
        if not failed or len(failed) < self._most:
            return 0.0
        return failed[0] + self._seconds - self._clock()

    def add(self, address: str) -> None:
        """Count a failure."""
        failed = self._failed.setdefault(address, deque(maxlen=self._most))
        failed.append(self._clock())
        self._failed.move_to_end(address)
        while len(self._failed) > _MOST_ADDRESSES:
            self._failed.popitem(last=False)
