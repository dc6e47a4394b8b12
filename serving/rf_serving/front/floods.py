"""Bounds on how often the other end may do what costs it nothing and us something."""

from rf_serving.front.faults import ConnectionFault, ErrorCode
from rf_serving.front.limits import FrontLimits

_MOST_EARLY_PINGS = 2
_RESET_RATE, _FRAME_RATE = 100.0, 400.0
_WORTH_OF_CALL, _BYTES_WORTH_ONE = 8, 1024
_INFLATED_MOST, _INFLATED_BYTES_COST = 64, 32 * 1024


class Budget:
    """Number of times that something may happen: a burst, a rate, and what useful work earns on top.

    Args:
        most: the burst, and all that can be saved up.
        per_second: refill.
        reason: told to the other end when it is used up.
        now: seconds of a clock.
    """

    def __init__(self, most: int, per_second: float, reason: str, now: float) -> None:
        self._most, self._per_second, self._reason = most, per_second, reason
        self._left, self._seen = float(most), now

    def spend(self, now: float, cost: float = 1.0) -> None:
        """Count.

        Raises:
            ConnectionFault: too often (ENHANCE_YOUR_CALM).
        """
        self._left -= cost
        if self._left < 0:
            self._left = min(self._most, self._left + (now - self._seen) * self._per_second)
            self._seen = now
            if self._left < 0:
                raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, self._reason)

    def earn(self, amount: float = 1.0) -> None:
        """Allow more after useful work."""
        if self._left < self._most:
            self._left += amount


class Costs:
    """Account of one connection: what it costs, and what it earns by useful work.

    Methods that count raise :class:`ConnectionFault` (ENHANCE_YOUR_CALM) where the costs are too high.
    """

    def __init__(self, limits: FrontLimits, now: float) -> None:
        self.now = now
        """Time of the latest data that came."""
        self._resets = Budget(limits.resets, _RESET_RATE, "too many calls are reset", now)
        self._frames = Budget(limits.idle_frames, _FRAME_RATE, "too many frames that carry nothing", now)

    def frame(self, cost: float = 1.0) -> None:
        """Count a frame that carries nothing, or what costs as much as several."""
        self._frames.spend(self.now, cost)

    def reset(self, cost: float = 1.0) -> None:
        """Count a call that was reset, or had to be."""
        self._resets.spend(self.now, cost)

    def inflated(self, came: int, size: int) -> None:
        """Count a message that was decompressed: a large one of few bytes costs much time."""
        if size > _INFLATED_MOST * came:
            self.frame(size / _INFLATED_BYTES_COST)

    def carried(self, size: int) -> None:
        """Note bytes that were of use."""
        self._frames.earn(size / _BYTES_WORTH_ONE)

    def answered(self) -> None:
        """Note a call that was answered."""
        self._resets.earn()
        self._frames.earn(_WORTH_OF_CALL)


class PingPolicy:
    """Pings of the other end, judged as gRPC does: two may come too early; sending headers or data begins anew."""

    def __init__(self, min_seconds: float) -> None:
        self._min_seconds = min_seconds
        self._last = float("-inf")
        self._early = 0

    def forgive(self) -> None:
        """Begin anew: something was sent that may have made the other end ping."""
        self._last, self._early = float("-inf"), 0

    def received(self, now: float) -> None:
        """Count a ping.

        Raises:
            ConnectionFault: they come too often.
        """
        early, self._last = now < self._last + self._min_seconds, now
        if early:
            self._early += 1
            if self._early > _MOST_EARLY_PINGS:
                raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "too_many_pings")
