"""Open-loop load: calls start when they are due, whether or not earlier ones were answered."""

from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

RETRIEVE = "/retrievalformer.v1.RetrievalService/Retrieve"
CONNECTIONS = 8
"""With workers that share a port, each connection stays with one of them."""
PERCENTILES = (50, 90, 99, 99.9)


@dataclass(frozen=True, kw_only=True)
class LoadPlan:
    """Calls to be sent at random moments (a Poisson process)."""

    address: str
    method: str = RETRIEVE
    requests: Sequence[bytes]
    """Serialised messages, sent in turn."""
    rate: float
    """Calls a second."""
    seconds: float
    seed: int = 0
    """Of the moments."""
    timeout: float = 5.0
    """Deadline of a call in seconds, from when it is sent."""
    max_open: int = 20_000
    """Most calls that wait for an answer; more means that nothing is answered at all."""


@dataclass(frozen=True, kw_only=True)
class Load:
    """Outcome of a load. Times count from when a call was due, so waiting in the generator is part of them."""

    rate: float
    """Calls a second that were due."""
    seconds: float
    """Time in which calls were sent: as long as they were due, or longer where the generator could not keep up."""
    statuses: Mapping[str, int]
    """Calls by the name of their gRPC status; ``NOT_SENT`` for those beyond :attr:`LoadPlan.max_open`."""
    in_time: int
    """Calls answered OK within the timeout."""
    milliseconds: Mapping[str, Mapping[str, float]]
    """Status -> percentile -> milliseconds from due to ended."""
    late_ms: Mapping[str, float]
    """Percentiles of how late calls were sent: what of the latency is the generator's own."""
    reply_bytes: float
    """Mean message of the calls answered OK."""
    generator_us: float
    """CPU microseconds of the generator, a call."""

    @property
    def calls(self) -> int:
        """Number of all calls."""
        return sum(self.statuses.values())

    @property
    def ok(self) -> int:
        """Number of calls answered OK."""
        return self.statuses.get("OK", 0)

    @property
    def sent_rate(self) -> float:
        """Calls sent a second: less than :attr:`rate` where the generator could not keep up."""
        return (self.calls - self.statuses.get("NOT_SENT", 0)) / self.seconds

    def percentile(self, q: float) -> float:
        """Return a percentile of :data:`PERCENTILES` of the calls answered OK, in milliseconds; infinite if none was."""
        return self.milliseconds.get("OK", {}).get(f"p{q:g}", float("inf"))


Generator = Callable[[LoadPlan], Coroutine[Any, Any, Load]]
"""Sends the calls of a plan and waits until all have ended."""


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """Return the percentiles of some values, by name, and the largest one."""
    found = np.percentile(values, (*PERCENTILES, 100)).tolist()
    return dict(zip((*(f"p{q:g}" for q in PERCENTILES), "max"), found, strict=True))
