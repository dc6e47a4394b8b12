"""Load generator on grpc.aio, for systems without nghttp2: its calls cost several times the CPU of the native ones."""

import asyncio
from collections import defaultdict
from collections.abc import Coroutine
from selectors import SelectSelector
from time import perf_counter, process_time
from typing import Any, TypeVar

import grpc.aio
import numpy as np

from rf_bench.serve.load import CONNECTIONS, Load, LoadPlan, percentiles

T = TypeVar("T")


def run_on_time(load: Coroutine[Any, Any, T]) -> T:
    """Run what sends calls, in an event loop that wakes up when they are due.

    The usual ones wait in whole milliseconds, rounded up: of a call that is answered in one or two, that would be a good part.
    """
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(SelectSelector())) as runner:
        return runner.run(load)


async def python_load(plan: LoadPlan) -> Load:
    """Send the calls of a plan from this process, best within :func:`run_on_time`."""
    options = [("grpc.use_local_subchannel_pool", 1)]  # connections of their own, or all channels would share one
    channels = [grpc.aio.insecure_channel(plan.address, options=options) for _ in range(CONNECTIONS)]
    try:
        await asyncio.gather(*(channel.channel_ready() for channel in channels))
        return await _send(plan, channels)
    finally:
        await asyncio.gather(*(channel.close(None) for channel in channels))


async def _send(plan: LoadPlan, channels: list[grpc.aio.Channel]) -> Load:
    rng = np.random.default_rng(plan.seed)
    gaps = rng.exponential(1 / plan.rate, max(1, int(plan.rate * plan.seconds)))
    # Exactly the rate, also where calls are few.
    due = np.cumsum(gaps) * (len(gaps) / plan.rate / gaps.sum())
    first = int(rng.integers(len(plan.requests)))
    calls = [channel.unary_unary(plan.method, None, None) for channel in channels]
    ended: defaultdict[str, list[float]] = defaultdict(list)
    late: list[float] = []
    open_calls: set[asyncio.Task[None]] = set()
    received, cpu, begin = 0, process_time(), perf_counter()

    async def call(number: int, moment: float) -> None:
        nonlocal received
        status = "OK"
        try:
            request = plan.requests[(first + number) % len(plan.requests)]
            reply = await calls[number % len(calls)](request, timeout=plan.timeout)
            received += len(reply)
        except grpc.aio.AioRpcError as error:
            status = error.code().name
        ended[status].append((perf_counter() - begin - moment) * 1000)

    for number, moment in enumerate(due.tolist()):
        wait = moment - (perf_counter() - begin)
        if wait > 0:
            await asyncio.sleep(wait)
        lateness = (perf_counter() - begin - moment) * 1000
        if len(open_calls) >= plan.max_open:
            ended["NOT_SENT"].append(lateness)
            continue
        late.append(lateness)
        task = asyncio.create_task(call(number, moment))
        open_calls.add(task)
        task.add_done_callback(open_calls.discard)
    sent = perf_counter() - begin
    while open_calls:
        await asyncio.wait(list(open_calls))
    return Load(
        rate=plan.rate,
        seconds=max(float(due[-1]), sent),
        statuses={status: len(times) for status, times in ended.items()},
        in_time=sum(each <= plan.timeout * 1000 for each in ended.get("OK", ())),
        milliseconds={status: percentiles(times) for status, times in ended.items()},
        late_ms=percentiles(late),
        reply_bytes=received / max(1, len(ended.get("OK", ()))),
        generator_us=(process_time() - cpu) / len(due) * 1e6,
    )
