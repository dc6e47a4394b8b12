"""Three times as much as a server can take: what it still answers, and whether its memory stays flat."""

import asyncio
from dataclasses import dataclass

from rf_bench.serve.processes import usage
from rf_bench.serve.sweep import Stretch, Target, stretch

FACTOR = 3.0
WATCH_SECONDS = 1.0
REFUSED = ("RESOURCE_EXHAUSTED", "CANCELLED")
DEADLINE_SECONDS = 0.25
"""What a caller of an online service waits for at most; an answer after it is worth nothing."""


@dataclass(frozen=True, kw_only=True)
class Overload:
    """A server under too much load."""

    at_peak: Stretch
    """As much as it can take, right before."""
    overloaded: Stretch
    memory: list[int]
    """Proportional set size in bytes, all processes: before, every second under the load, and after it."""

    @property
    def factor(self) -> float:
        """How many times the peak was really sent; the generator, beside the server, may not reach :data:`FACTOR`."""
        return self.overloaded.load.sent_rate / max(1e-9, self.at_peak.load.sent_rate)

    @property
    def shed_share(self) -> float:
        """Share of the calls that were refused, by the server or by gRPC for it, of all that were not answered OK."""
        statuses = self.overloaded.load.statuses
        failed = sum(statuses.values()) - statuses.get("OK", 0)
        return sum(statuses.get(status, 0) for status in REFUSED) / failed if failed else 1.0

    @property
    def goodput_share(self) -> float:
        """Calls answered OK and in full within the deadline, against the peak."""
        return self.overloaded.good_rate / max(1e-9, self.at_peak.good_rate)


async def overload(target: Target, peak: float, seconds: float) -> Overload:
    """Load a server at its peak and then at :data:`FACTOR` times as much, both with the same deadline.

    Args:
        target: the server.
        peak: calls a second that it can take.
        seconds: how long each.
    """
    at_peak = await stretch(target, peak, seconds, seed=1, timeout=DEADLINE_SECONDS)
    memory = [usage(target.pid).proportional_bytes]

    async def watch() -> None:
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            memory.append(usage(target.pid).proportional_bytes)

    watching = asyncio.create_task(watch())
    overloaded = await stretch(target, peak * FACTOR, seconds, seed=2, timeout=DEADLINE_SECONDS)
    watching.cancel()
    memory.append(usage(target.pid).proportional_bytes)
    return Overload(at_peak=at_peak, overloaded=overloaded, memory=memory)
