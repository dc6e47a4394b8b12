"""A stretch of load at one rate, with what it cost the server."""

from collections.abc import Sequence
from dataclasses import dataclass

from rf_bench.serve.load import RETRIEVE, Generator, Load, LoadPlan
from rf_bench.serve.processes import Scheduling
from rf_bench.serve.stages import told_by

KEPT_SHARE, QUEUE_MS = 0.9, 100.0
"""A server falls behind if it answers a smaller share of the calls, or half of them wait longer."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """A server under load."""

    address: str
    pid: int
    generator: Generator
    requests: Sequence[bytes]
    method: str = RETRIEVE
    metrics_url: str | None = None


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """A stretch of load with what it cost the server, all its processes."""

    load: Load
    cpu_seconds: float
    wait_seconds: float | None
    """In which its threads were ready to run and waited for a CPU; None where the system does not tell."""
    pressure: float | None
    """Share of the time in which something on the machine waited for a CPU."""
    stages: dict[str, float]
    """Milliseconds of each stage, the mean over the calls of this stretch; empty for a server without metrics."""
    degraded: int = 0
    """Calls answered OK, but without the online store: no success where the store is up."""

    @property
    def cpu_us(self) -> float:
        """CPU microseconds for each call answered OK."""
        return self.cpu_seconds * 1e6 / max(1, self.load.ok)

    @property
    def wait_us(self) -> float | None:
        """Microseconds of waiting for a CPU for each call answered OK."""
        return None if self.wait_seconds is None else self.wait_seconds * 1e6 / max(1, self.load.ok)

    @property
    def good_rate(self) -> float:
        """Calls a second that were answered OK, in time and in full."""
        return max(0, self.load.in_time - self.degraded) / self.load.seconds

    @property
    def failed_share(self) -> float:
        """Share of the calls that were not answered OK and in full."""
        return 1 - (self.load.ok - self.degraded) / max(1, self.load.calls)

    @property
    def keeps_up(self) -> bool:
        """Whether about as much was answered as was due, without a queue that grew all the time."""
        return self.failed_share <= 1 - KEPT_SHARE and self.load.percentile(50) <= QUEUE_MS


async def stretch(target: Target, rate: float, seconds: float, seed: int = 0, timeout: float = 5.0) -> Stretch:
    """Load a server at one rate."""
    plan = LoadPlan(
        address=target.address,
        method=target.method,
        requests=target.requests,
        rate=rate,
        seconds=seconds,
        seed=seed,
        timeout=timeout,
    )
    told_before = told_by(target.metrics_url)
    before = Scheduling.of(target.pid)
    load = await target.generator(plan)
    after = Scheduling.of(target.pid)
    told_after = told_by(target.metrics_url)
    stages = {}
    for name, (total, count) in told_after.stages.items():
        earlier = told_before.stages.get(name, (0.0, 0.0))
        if count > earlier[1]:
            stages[name] = round((total - earlier[0]) / (count - earlier[1]) * 1000, 4)
    pressed = _less(after.pressure_seconds, before.pressure_seconds)
    return Stretch(
        load=load,
        cpu_seconds=after.cpu_seconds - before.cpu_seconds,
        wait_seconds=_less(after.wait_seconds, before.wait_seconds),
        pressure=None if pressed is None else pressed / (after.moment - before.moment),
        stages=stages,
        degraded=round(told_after.degraded - told_before.degraded),
    )


def _less(after: float | None, before: float | None) -> float | None:
    return None if after is None or before is None else after - before
