"""Three times as much as a server can take: what it still answers, what refusals cost, and whether its memory stays flat."""

import asyncio
from dataclasses import dataclass

from rf_bench.serve.processes import Usage
from rf_bench.serve.stretch import Stretch, Target, stretch

FACTOR = 3.0
DEADLINE_SECONDS = 0.25
"""Deadline of a caller of an online service; a later answer is worth nothing."""


@dataclass(frozen=True, kw_only=True)
class Overload:
    """A server under too much load."""

    server: str
    round: int
    peak: Stretch
    """Stretch of the round with the most calls answered within the same deadline."""
    overloaded: Stretch
    memory: tuple[int, int]
    """Proportional set size in bytes, all processes, before and after."""

    @property
    def factor(self) -> float:
        """Ratio of the rate sent to the peak; the generator, beside the server, may not reach :data:`FACTOR`."""
        return self.overloaded.load.sent_rate / max(1e-9, self.peak.good_rate)

    @property
    def goodput_share(self) -> float:
        """Calls a second answered OK, in full and within the deadline, against the peak."""
        return self.overloaded.good_rate / max(1e-9, self.peak.good_rate)

    @property
    def rest(self) -> dict[str, int]:
        """Calls that were not answered OK, by status."""
        return {status: calls for status, calls in self.overloaded.load.statuses.items() if status != "OK"}

    @property
    def refusal_us(self) -> float | None:
        """CPU microseconds of the server for each of them: what is left when a call answered OK costs what it did at the peak."""
        calls = sum(self.rest.values()) - self.rest.get("NOT_SENT", 0)
        spent = self.overloaded.cpu_seconds * 1e6 - self.overloaded.load.ok * self.peak.cpu_us
        return spent / calls if calls else None


async def overload(server: str, number: int, target: Target, peak: Stretch, seconds: float) -> Overload:
    """Send a server :data:`FACTOR` times its peak.

    Args:
        server: its name.
        number: of the round.
        target: the server.
        peak: stretch with the most calls answered.
        seconds: how long.
    """
    before = await asyncio.to_thread(Usage.of, target.pid)
    overloaded = await stretch(target, peak.good_rate * FACTOR, seconds, seed=number, timeout=DEADLINE_SECONDS)
    after = await asyncio.to_thread(Usage.of, target.pid)
    memory = before.proportional_bytes, after.proportional_bytes
    return Overload(server=server, round=number, peak=peak, overloaded=overloaded, memory=memory)
