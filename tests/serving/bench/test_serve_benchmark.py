"""The load generator and what it reads off a server, on servers whose behaviour is known."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import grpc
import grpc.aio
import numpy as np
import pytest

from rf_bench.serve import sweep
from rf_bench.serve.benchmark import ServeBenchmark, measure_echo
from rf_bench.serve.load import Load, open_loop, run_on_time
from rf_bench.serve.processes import usage
from rf_bench.serve.soak import Soak
from rf_bench.serve.stages import Told, told_by
from rf_bench.serve.sweep import LIMITS, Limit, Stretch, Target, find_capacity, keeps_up
from rf_serving.server.metrics import ServerMetrics, exposed

METHOD = "/test.Test/Call"


@asynccontextmanager
async def channel_to(answer: Any) -> AsyncIterator[grpc.aio.Channel]:
    server = grpc.aio.server()
    handler = grpc.unary_unary_rpc_method_handler(answer)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Test", {"Call": handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        await channel.channel_ready()
        yield channel
    await server.stop(None)


def loaded(answer: Any, rate: float, seconds: float, timeout: float = 5.0) -> Load:
    async def run() -> Load:
        async with channel_to(answer) as channel:
            return await open_loop([channel], [b"a", b"b"], rate, seconds, timeout=timeout, method=METHOD)

    return run_on_time(run())


def test_calls_are_due_whether_or_not_earlier_ones_were_answered() -> None:
    open_calls, most = 0, 0

    async def slow(request: bytes, context: Any) -> bytes:
        nonlocal open_calls, most
        open_calls += 1
        most = max(most, open_calls)
        await asyncio.sleep(0.3)
        open_calls -= 1
        return request

    load = loaded(slow, rate=100, seconds=0.5)
    assert load.statuses == {"OK": 50}
    assert most > 10
    assert load.percentile(50) >= 300
    assert load.seconds == pytest.approx(0.5, rel=0.5)


def test_what_is_refused_or_late_is_counted_and_has_no_latency() -> None:
    calls = 0

    async def moody(request: bytes, context: Any) -> bytes:
        nonlocal calls
        calls += 1
        if calls % 4 == 0:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "busy")
        if calls % 4 == 1:
            await asyncio.sleep(5)
        return request

    load = loaded(moody, rate=100, seconds=0.4, timeout=0.2)
    assert load.statuses == {"OK": 20, "RESOURCE_EXHAUSTED": 10, "DEADLINE_EXCEEDED": 10}
    assert len(load.milliseconds) == 20
    assert load.failed_share == 0.5


def made(rate: float, p90: float, p99: float, failed: int = 0) -> Stretch:
    times = np.concatenate([np.full(89, p90 / 2), np.full(9, p90), np.full(2, p99)])
    statuses = {"OK": 100, "UNAVAILABLE": failed}
    load = Load(rate=rate, seconds=(100 + failed) / rate, statuses=statuses, milliseconds=times, late_ms=0.0)
    return Stretch(load=load, cpu_ms=1.0, stages={})


def test_a_limit_asks_for_the_percentile_and_for_answers() -> None:
    limit = Limit(90, 7)
    assert limit.met_by(made(100, 7, 50))
    assert not limit.met_by(made(100, 8, 8))
    assert not limit.met_by(made(100, 1, 1, failed=1))
    assert not limit.met_by(replace(made(100, 1, 1), degraded=1))


def test_the_search_ends_where_each_limit_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    async def known(target: Target, rate: float, seconds: float, seed: int = 0) -> Stretch:
        asked.append(rate)
        return made(rate, p90=5 if rate <= 400 else 9, p99=10 if rate <= 900 else 30, failed=0 if rate <= 2000 else 50)

    monkeypatch.setattr(sweep, "stretch", known)
    target = Target(address="", pid=0, requests=[b""])
    found = asyncio.run(find_capacity(target, 1.0, lowest=50, factor=1.5, refine=5))
    assert 380 <= found.within[str(LIMITS[0])] <= 400
    assert 860 <= found.within[str(LIMITS[1])] <= 900
    assert 1500 < found.peak <= 2000
    assert len(asked) == len(set(asked)) <= 11 + 2 * 5
    assert [each.load.rate for each in found.stretches] == sorted(asked)


def test_a_server_falls_behind_when_calls_fail_or_wait() -> None:
    assert keeps_up(made(100, 7, 50))
    assert keeps_up(made(100, 150, 200))  # half of it is the median
    assert not keeps_up(made(100, 250, 300))
    assert keeps_up(made(100, 1, 1, failed=5))
    assert not keeps_up(made(100, 1, 1, failed=20))


def test_stages_are_read_off_the_metrics() -> None:
    metrics = ServerMetrics()
    with exposed(metrics.registry, "127.0.0.1", 0) as port:
        for each in (0.001, 0.003):
            metrics.observe_stage("encode", each)
        metrics.observe_call("Retrieve", "OK", 0.1, cold=False, degraded=True)
        told = told_by(f"http://127.0.0.1:{port}/metrics")
    seconds, count = told.stages["encode"]
    assert told.degraded == 1
    assert seconds == pytest.approx(0.004)
    assert count == 2
    assert told_by(None) == Told({}, 0.0)


def test_usage_counts_work_and_memory() -> None:
    before = usage(os.getpid())
    block = np.ones(64_000_000, np.uint8)  # more than malloc takes from memory that was freed
    while usage(os.getpid()).cpu_seconds - before.cpu_seconds < 0.05:
        block += 1
    with open(os.devnull):
        after = usage(os.getpid())
    assert after.open_files == before.open_files + 1
    assert after.proportional_bytes - before.proportional_bytes > 50_000_000


def test_the_echo_server_is_loaded_as_a_process_of_its_own() -> None:
    lines: list[str] = []
    found = measure_echo(100, ServeBenchmark(seconds=0.5, lowest=1000.0), lines.append)
    assert found.peak > 20
    assert lines[0].startswith("echo at 4000/s: p50 ")


@pytest.mark.parametrize(
    ("memory", "growth"),
    [
        ([50, 90, 100, 160, 160, 100, 101, 160], 0.01),  # a second bundle is loaded in every other moment
        ([50, 90, 100, 160, 160, 100, 120, 160], 0.2),
        ([100, 90], 0.0),
        ([100], 0.0),
    ],
)
def test_growth_is_of_the_memory_that_is_always_there(memory: list[int], growth: float) -> None:
    soak = Soak(
        minutes=1, rate=1, statuses={}, changes={}, errors=[], p99_ms=[], memory=memory, open_files=[0] * len(memory)
    )
    assert soak.growth == pytest.approx(growth)
