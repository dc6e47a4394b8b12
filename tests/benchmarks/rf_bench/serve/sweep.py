"""How much a server can take: load at rising rates, and what each stretch cost the server."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import grpc.aio

from rf_bench.serve.load import RETRIEVE, Load, open_loop
from rf_bench.serve.processes import usage
from rf_bench.serve.stages import told_by

CHANNELS = 8
"""Connections; with workers that share a port, each connection stays with one of them."""
FAILED_SHARE = 0.001
"""A rate at which more calls fail is too high."""


@dataclass(frozen=True)
class Limit:
    """A latency that a share of the calls must keep."""

    percentile: float
    milliseconds: float

    def __str__(self) -> str:
        return f"p{self.percentile:g} <= {self.milliseconds:g} ms"

    def met_by(self, each: "Stretch") -> bool:
        """Whether a stretch of load kept it, and answered what it was sent."""
        return each.failed_share <= FAILED_SHARE and each.load.percentile(self.percentile) <= self.milliseconds


KEPT_SHARE, QUEUE_MS = 0.9, 100.0
"""A server falls behind if it answers a smaller share of the calls, or half of them wait longer."""
LIMITS = (Limit(90, 7), Limit(99, 20))


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """A stretch of load with what it cost."""

    load: Load
    cpu_ms: float
    """CPU milliseconds of the server, all its processes, for each call answered OK."""
    stages: dict[str, float]
    """Milliseconds of each stage, the mean over the calls of this stretch; empty for a server without metrics."""
    degraded: int = 0
    """Calls answered OK, but without the online store: no success where the store is up."""

    @property
    def good_rate(self) -> float:
        """Calls a second that were answered OK and in full."""
        return self.load.ok_rate - self.degraded / self.load.seconds

    @property
    def failed_share(self) -> float:
        """Share of the calls that were not."""
        return self.load.failed_share + self.degraded / max(1, self.load.calls)


@dataclass(frozen=True, kw_only=True)
class Target:
    """A server under load."""

    address: str
    pid: int
    requests: Sequence[bytes]
    method: str = RETRIEVE
    metrics_url: str | None = None


async def stretch(target: Target, rate: float, seconds: float, seed: int = 0, timeout: float = 5.0) -> Stretch:
    """Load a server at one rate."""
    options = [("grpc.use_local_subchannel_pool", 1)]  # connections of their own, or all channels would share one
    channels = [grpc.aio.insecure_channel(target.address, options=options) for _ in range(CHANNELS)]
    try:
        for channel in channels:
            await channel.channel_ready()
        before, told_before = usage(target.pid), told_by(target.metrics_url)
        load = await open_loop(channels, target.requests, rate, seconds, seed, timeout, target.method)
        after, told_after = usage(target.pid), told_by(target.metrics_url)
    finally:
        for channel in channels:
            await channel.close(None)
    stages = {}
    for name, (total, count) in told_after.stages.items():
        earlier = told_before.stages.get(name, (0.0, 0.0))
        if count > earlier[1]:
            stages[name] = round((total - earlier[0]) / (count - earlier[1]) * 1000, 4)
    answered = max(1, load.statuses.get("OK", 0))
    return Stretch(
        load=load,
        cpu_ms=(after.cpu_seconds - before.cpu_seconds) * 1000 / answered,
        stages=stages,
        degraded=round(told_after.degraded - told_before.degraded),
    )


@dataclass(frozen=True, kw_only=True)
class Capacity:
    """What was found for a server."""

    stretches: list[Stretch]
    """By rate."""
    within: dict[str, float]
    """By limit: the highest rate at which it was kept, 0 if at none."""
    peak: float
    """Most calls answered OK and in full a second, at any rate."""


async def find_capacity(
    target: Target,
    seconds: float,
    lowest: float = 50.0,
    factor: float = 1.5,
    refine: int = 3,
    after_each: Callable[[Stretch], None] = lambda each: None,
) -> Capacity:
    """Raise the rate by ``factor`` until the server falls behind, then close in on where each limit ends.

    The rate goes on rising where no limit is kept any more, or was ever: how much is answered at most is to be seen too.

    Args:
        target: the server.
        seconds: how long each rate is held.
        lowest: first rate.
        factor: between two rates.
        refine: halvings, on a logarithmic scale, of the step in which a limit ends.
        after_each: called with every stretch, for progress.
    """
    found: dict[float, Stretch] = {}

    async def at(rate: float) -> Stretch:
        if rate not in found:
            found[rate] = await stretch(target, rate, seconds, seed=len(found))
            after_each(found[rate])
        return found[rate]

    rate = lowest
    while keeps_up(await at(rate)):
        rate = round(rate * factor)
    for limit in LIMITS:
        for _ in range(refine):
            kept = [r for r, each in found.items() if limit.met_by(each)]
            if not kept:
                break
            above = [r for r in found if r > max(kept)]
            middle = round(math.sqrt(max(kept) * min(above))) if above else max(kept)
            if middle in found:
                break
            await at(middle)
    stretches = [found[r] for r in sorted(found)]
    within = {str(limit): max((r for r, s in found.items() if limit.met_by(s)), default=0.0) for limit in LIMITS}
    return Capacity(stretches=stretches, within=within, peak=max(each.good_rate for each in stretches))


def keeps_up(each: Stretch) -> bool:
    """Whether a server answered about as much as was due, without a queue that grew all the time."""
    return each.failed_share <= 1 - KEPT_SHARE and each.load.percentile(50) <= QUEUE_MS
