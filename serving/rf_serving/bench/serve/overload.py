"""Three times as much as a server can take: what it still answers, and whether its memory stays flat."""

from dataclasses import dataclass
from typing import Any

from rf_serving.bench.serve.processes import usage
from rf_serving.bench.serve.sweep import Stretch, Target, stretch

FACTOR = 3.0
DEADLINE_SECONDS = 0.25
"""What a caller of an online service waits for at most; an answer after it is worth nothing."""


@dataclass(frozen=True, kw_only=True)
class Overload:
    """A server under too much load."""

    at_peak: Stretch
    """As much as it can take, right before."""
    overloaded: Stretch
    memory_before: int
    """Proportional set size in bytes, all processes."""
    memory_after: int

    @property
    def goodput_share(self) -> float:
        """Calls answered OK within the deadline, against the peak."""
        return self.overloaded.load.ok_rate / max(1e-9, self.at_peak.load.ok_rate)

    def to_dict(self) -> dict[str, Any]:
        """Return the figures, for JSON."""
        return {
            "at_peak": self.at_peak.to_dict(),
            "overloaded": self.overloaded.to_dict(),
            "goodput_share": round(self.goodput_share, 4),
            "memory_before": self.memory_before,
            "memory_after": self.memory_after,
        }


async def overload(target: Target, peak: float, seconds: float) -> Overload:
    """Load a server at its peak and then at :data:`FACTOR` times as much, both with the same deadline.

    Args:
        target: the server.
        peak: calls a second that it can take.
        seconds: how long each.
    """
    at_peak = await stretch(target, peak, seconds, seed=1, timeout=DEADLINE_SECONDS)
    before = usage(target.pid).proportional_bytes
    overloaded = await stretch(target, peak * FACTOR, seconds, seed=2, timeout=DEADLINE_SECONDS)
    after = usage(target.pid).proportional_bytes
    return Overload(at_peak=at_peak, overloaded=overloaded, memory_before=before, memory_after=after)
