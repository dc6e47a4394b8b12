"""Open-loop load: calls start when they are due, whether or not earlier ones were answered."""

import asyncio
from collections import Counter
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from selectors import SelectSelector
from time import perf_counter
from typing import Any, TypeVar

import grpc
import grpc.aio
import numpy as np
import numpy.typing as npt

RETRIEVE = "/retrievalformer.v1.RetrievalService/Retrieve"
_OPEN_CALLS = 20_000
"""Most calls that wait for an answer; more means that nothing is answered at all."""
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Load:
    """What a stretch of load gave. Times count from when a call was due, so waiting in the generator is part of them."""

    rate: float
    """Calls a second that were due."""
    seconds: float
    """How long calls were sent: as long as they were due, or longer where the generator could not keep up."""
    statuses: dict[str, int]
    """Calls by the name of their gRPC status."""
    milliseconds: npt.NDArray[np.float64] = field(repr=False)
    """[calls answered OK]: from due to answered."""
    late_ms: float
    """99th percentile of how late calls were sent: what of the latency is the generator's own."""

    @property
    def calls(self) -> int:
        """All calls."""
        return sum(self.statuses.values())

    @property
    def sent_rate(self) -> float:
        """Calls sent a second: less than :attr:`rate` where the generator could not keep up."""
        return self.calls / self.seconds

    @property
    def ok_rate(self) -> float:
        """Calls answered OK a second."""
        return self.statuses.get("OK", 0) / self.seconds

    @property
    def failed_share(self) -> float:
        """Share of the calls that were not answered OK."""
        return 1 - self.statuses.get("OK", 0) / max(1, self.calls)

    def percentile(self, q: float) -> float:
        """Return a percentile of the latency in milliseconds; infinite if nothing was answered."""
        return float(np.percentile(self.milliseconds, q)) if len(self.milliseconds) else float("inf")

    @property
    def percentiles(self) -> dict[str, float]:
        """Latency in milliseconds by percentile."""
        return {f"p{q:g}": self.percentile(q) for q in (50, 90, 99, 99.9)}


def run_on_time(load: Coroutine[Any, Any, T]) -> T:
    """Run what sends calls, in an event loop that wakes up when they are due.

    The usual ones wait in whole milliseconds, rounded up: of a call that is answered in one or two, that would be a good part.
    """
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(SelectSelector())) as runner:
        return runner.run(load)


async def open_loop(
    channels: Sequence[grpc.aio.Channel],
    requests: Sequence[bytes],
    rate: float,
    seconds: float,
    seed: int = 0,
    timeout: float = 5.0,
    method: str = RETRIEVE,
) -> Load:
    """Send calls at random moments, ``rate`` a second on average (a Poisson process), and wait for all answers.

    Args:
        channels: used in turn.
        requests: serialised messages, used in turn.
        rate: calls a second.
        seconds: how long.
        seed: of the moments.
        timeout: deadline of a call in seconds.
        method: full name of the method.
    """
    rng = np.random.default_rng(seed)
    gaps = rng.exponential(1 / rate, max(1, int(rate * seconds)))
    # Exactly the rate, also where calls are few.
    due = np.cumsum(gaps) * (len(gaps) / rate / gaps.sum())
    statuses: Counter[str] = Counter()
    milliseconds: list[float] = []
    late: list[float] = []
    calls = [channel.unary_unary(method, None, None) for channel in channels]
    open_calls: set[asyncio.Task[None]] = set()
    begin = perf_counter()

    async def call(number: int, moment: float) -> None:
        try:
            await calls[number % len(calls)](requests[number % len(requests)], timeout=timeout)
        except grpc.aio.AioRpcError as error:
            statuses[error.code().name] += 1
            return
        statuses["OK"] += 1
        milliseconds.append((perf_counter() - begin - moment) * 1000)

    for number, moment in enumerate(due.tolist()):
        wait = moment - (perf_counter() - begin)
        if wait > 0:
            await asyncio.sleep(wait)
        if len(open_calls) >= _OPEN_CALLS:
            statuses["NOT_SENT"] += 1
            continue
        late.append((perf_counter() - begin - moment) * 1000)
        task = asyncio.create_task(call(number, moment))
        open_calls.add(task)
        task.add_done_callback(open_calls.discard)
    sent = perf_counter() - begin
    while open_calls:
        await asyncio.wait(list(open_calls))
    return Load(
        rate=rate,
        seconds=max(float(due[-1]), sent),
        statuses=dict(statuses),
        milliseconds=np.array(milliseconds),
        late_ms=float(np.percentile(late, 99)),
    )
