"""Load shedding: calls beyond an adaptive limit are refused at once and cheaply instead of queueing."""

from collections.abc import Callable
from time import monotonic

LEAST = 16
_INTERVAL = 0.1
_SHRINK = 0.8
_GROW = 1.1


class Admission:
    """Bounds the calls in flight, by a fixed number and by how long they wait.

    The limit follows the queue, as CoDel's does (Nichols and Jacobson, "Controlling Queue Delay", 2012): if even the call that
    waited least within a tenth of a second waited longer than :attr:`target_seconds`, the queue is a standing one, which makes
    every answer late and none more; the limit shrinks by a fifth. While calls are turned away and the queue is short, it grows
    by a tenth. Used from the event loop only.
    """

    def __init__(
        self, most: int, target_seconds: float = 0.02, least: int = LEAST, clock: Callable[[], float] = monotonic
    ) -> None:
        """Begin with the largest limit.

        Args:
            most: calls in flight, at most.
            target_seconds: how long a call may wait for its turn.
            least: the limit never shrinks below this (or below ``most``).
            clock: seconds.
        """
        self.most, self.target_seconds, self._least = most, target_seconds, min(least, most)
        self._clock = clock
        self._limit = float(most)
        self.active = 0
        """Calls in flight."""
        self._until = clock() + _INTERVAL
        self._shortest: float | None = None
        self._turned_away = False

    @property
    def limit(self) -> int:
        """Present limit of calls in flight."""
        return int(self._limit)

    @property
    def busy(self) -> bool:
        """Whether more than half of what is possible is going on."""
        return 2 * self.active > self.limit

    @property
    def full(self) -> bool:
        """Whether one more call would be refused."""
        return self.active >= self.limit

    def enter(self) -> bool:
        """Admit a call, which then has to :meth:`leave`; False at the limit."""
        if self.full:
            return False
        self.active += 1
        return True

    def refused(self) -> None:
        """Note that a call was turned away."""
        self._turned_away = True
        self._adjust()

    def leave(self, waited: float | None = None) -> None:
        """End a call.

        Args:
            waited: seconds it waited for its turn, not counting the work itself; None if that is not known.
        """
        self.active -= 1
        if waited is not None and (self._shortest is None or waited < self._shortest):
            self._shortest = waited
        self._adjust()

    def _adjust(self) -> None:
        now = self._clock()
        if now < self._until:
            return
        if self._shortest is not None and self._shortest > self.target_seconds:
            self._limit = max(self._least, self._limit * _SHRINK)
        elif self._turned_away:
            self._limit = min(self.most, self._limit * _GROW)
        self._until, self._shortest, self._turned_away = now + _INTERVAL, None, False
