"""How much a server can take: load at rising rates, and what each stretch cost the server."""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import grpc.aio

from rf_serving.bench.serve.load import RETRIEVE, Load, open_loop
from rf_serving.bench.serve.processes import usage
from rf_serving.bench.serve.stages import stage_seconds

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

    def met_by(self, load: Load) -> bool:
        """Whether a stretch of load kept it, and answered what it was sent."""
        return load.failed_share <= FAILED_SHARE and load.percentile(self.percentile) <= self.milliseconds


LIMITS = (Limit(90, 7), Limit(99, 20))


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """A stretch of load with what it cost."""

    load: Load
    cpu_ms: float
    """CPU milliseconds of the server, all its processes, for each call answered OK."""
    stages: dict[str, float]
    """Milliseconds of each stage, the mean over the calls of this stretch; empty for a server without metrics."""

    def to_dict(self) -> dict[str, object]:
        """Return the figures, for JSON."""
        return {**self.load.to_dict(), "cpu_ms_per_call": round(self.cpu_ms, 4), "stage_ms": self.stages}


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
        before, stages_before = usage(target.pid), stage_seconds(target.metrics_url)
        load = await open_loop(channels, target.requests, rate, seconds, seed, timeout, target.method)
        after, stages_after = usage(target.pid), stage_seconds(target.metrics_url)
    finally:
        for channel in channels:
            await channel.close(None)
    stages = {}
    for name, (total, count) in stages_after.items():
        earlier = stages_before.get(name, (0.0, 0.0))
        if count > earlier[1]:
            stages[name] = round((total - earlier[0]) / (count - earlier[1]) * 1000, 4)
    answered = max(1, load.statuses.get("OK", 0))
    return Stretch(load=load, cpu_ms=(after.cpu_seconds - before.cpu_seconds) * 1000 / answered, stages=stages)


@dataclass(frozen=True, kw_only=True)
class Capacity:
    """What was found for a server."""

    stretches: list[Stretch]
    """By rate."""
    within: dict[str, float]
    """By limit: the highest rate at which it was kept, 0 if at none."""
    peak: float
    """Most calls answered OK a second, at any rate."""

    def to_dict(self) -> dict[str, object]:
        """Return the figures, for JSON."""
        return {**asdict(self), "stretches": [each.to_dict() for each in self.stretches]}


async def find_capacity(
    target: Target,
    seconds: float,
    lowest: float = 50.0,
    factor: float = 1.5,
    refine: int = 3,
    after_each: Callable[[Stretch], None] = lambda each: None,
) -> Capacity:
    """Raise the rate by ``factor`` until no limit is kept, then close in on where each limit ends.

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
    while _met(await at(rate)):
        rate = round(rate * factor)
    for limit in LIMITS:
        for _ in range(refine):
            kept = [r for r, each in found.items() if limit.met_by(each.load)]
            if not kept:
                break
            above = [r for r in found if r > max(kept)]
            middle = round(math.sqrt(max(kept) * min(above)))
            if middle in found:
                break
            await at(middle)
    stretches = [found[r] for r in sorted(found)]
    within = {str(limit): max((r for r, s in found.items() if limit.met_by(s.load)), default=0.0) for limit in LIMITS}
    return Capacity(stretches=stretches, within=within, peak=max(each.load.ok_rate for each in stretches))


def _met(each: Stretch) -> bool:
    return any(limit.met_by(each.load) for limit in LIMITS)
