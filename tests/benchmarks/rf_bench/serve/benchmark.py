"""`rf bench serve`: rates, limits, overload and soak on real server processes, beside a bare echo server."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import grpc.aio
import numpy as np

from rf_bench.report import Table
from rf_bench.serve.echo import METHOD
from rf_bench.serve.load import RETRIEVE, run_on_time
from rf_bench.serve.overload import Overload, overload
from rf_bench.serve.soak import Changes, Soak, soak
from rf_bench.serve.sweep import LIMITS, Capacity, Stretch, Target, find_capacity, stretch
from rf_bench.serve.workspace import Service
from rf_platform.registry import Registry
from rf_protos.v1.retrieval_pb2 import RetrieveRequest
from rf_serving.background_server import BackgroundServer

REQUESTS = 2_000
"""Different requests, sent again and again."""
WARM_UP_RATE, WARM_UP_SECONDS = 50.0, 3.0
SOAK_SHARE = 0.5
"""Rate of a soak, of what keeps the first limit."""


@dataclass(frozen=True, kw_only=True)
class ServeBenchmark:
    """What is measured, and how long."""

    seconds: float = 10.0
    """How long each rate is held."""
    workers: int = 1
    """Worker processes of the server."""
    max_pending: int = 128
    """Calls that wait to be taken in, at most."""
    k: int = 20
    """Items a request asks for."""
    lowest: float = 50.0
    """First rate."""
    overload: bool = True
    soak: float = 0.0
    """Minutes; 0: no soak."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What was found for one online store."""

    store: str
    capacity: Capacity
    overload: Overload | None
    soak: Soak | None
    memory: int
    """Proportional set size of the server in bytes, after the first load."""
    reply_bytes: int
    """Size of a reply, which the echo server returns too."""


def requests_of(service: Service, k: int, seed: int = 0) -> list[bytes]:
    """Return serialised requests of random users, seen items left out."""
    rng = np.random.default_rng(seed)
    users = rng.choice(service.users, REQUESTS)
    return [RetrieveRequest(user_id=str(u), k=k, exclude_seen=True).SerializeToString() for u in users]


def measure_server(service: Service, options: ServeBenchmark, note: Callable[[str], None]) -> Measured:
    """Start a server on a workspace and load it."""
    from rf_bench.serve.processes import usage

    store = service.settings.online_store_url
    name = "sqlite" if store is None else store.split(":", 1)[0]
    environment = {"RF_ONLINE_STORE_URL": store} if store else {}
    arguments = ["--metrics-port", "0", "--log-level", "warning", "--workers", str(options.workers)]
    arguments += ["--max-pending", str(options.max_pending)]
    with BackgroundServer(service.settings.home, arguments, environment, start_seconds=600) as server:
        target = Target(
            address=server.address,
            pid=server.process.pid,
            requests=requests_of(service, options.k),
            metrics_url=f"http://127.0.0.1:{server.serving['metrics_port']}/metrics",
        )

        async def run() -> Measured:
            await stretch(target, WARM_UP_RATE, WARM_UP_SECONDS)
            reply = await _one_reply(target.address, target.requests[0])
            capacity = await find_capacity(
                target, options.seconds, options.lowest, after_each=lambda each: note(_line(name, each))
            )
            memory = usage(target.pid).proportional_bytes
            overloaded = await overload(target, capacity.peak, options.seconds) if options.overload else None
            soaked = await _soak(target, service, capacity, options) if options.soak else None
            return Measured(
                store=name, capacity=capacity, overload=overloaded, soak=soaked, memory=memory, reply_bytes=reply
            )

        return run_on_time(run())


async def _soak(target: Target, service: Service, capacity: Capacity, options: ServeBenchmark) -> Soak:
    registry = Registry.of(service.settings)
    rate = max(options.lowest / 2, SOAK_SHARE * capacity.within[str(LIMITS[0])])
    async with grpc.aio.insecure_channel(target.address) as channel:
        changes = Changes(channel, registry, service.bundles[::-1], service.users, seed=0)
        await changes.prepare(service.items)
        return await soak(target, changes, rate, options.soak)


def measure_echo(reply_bytes: int, options: ServeBenchmark, note: Callable[[str], None]) -> Capacity:
    """Load a server that only echoes, with the same generator."""
    with _echo(reply_bytes) as (port, pid):
        target = Target(address=f"127.0.0.1:{port}", pid=pid, requests=[bytes(24)], method=METHOD)

        async def run() -> Capacity:
            await stretch(target, WARM_UP_RATE, WARM_UP_SECONDS)
            return await find_capacity(
                target, options.seconds, 4 * options.lowest, after_each=lambda each: note(_line("echo", each))
            )

        return run_on_time(run())


async def _one_reply(address: str, request: bytes) -> int:
    async with grpc.aio.insecure_channel(address) as channel:
        return len(await channel.unary_unary(RETRIEVE, None, None)(request, timeout=10))


@contextmanager
def _echo(reply_bytes: int) -> Iterator[tuple[int, int]]:
    command = [sys.executable, "-m", "rf_bench.serve.echo", str(reply_bytes)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield int(process.stdout.readline()), process.pid
    finally:
        process.stdin.close()
        process.wait(10)
        process.stdout.close()


def _line(name: str, each: Stretch) -> str:
    load = each.load
    percentiles = ", ".join(f"p{q} {load.percentile(q):.2f}" for q in (50, 90, 99))
    failed = f"{each.failed_share:.2%} failed or degraded"
    return f"{name} at {load.rate:g}/s: {percentiles} ms, {failed}, {each.cpu_ms:.2f} ms of CPU a call"


def summary(echo: Capacity, servers: list[Measured]) -> dict[str, dict[str, Any]]:
    """Return the figures to look at first, by server; the echo server is the last one."""
    first = str(LIMITS[0])
    rows: dict[str, dict[str, Any]] = {}
    for each in servers:
        rate = each.capacity.within[first]
        at = next((s for s in each.capacity.stretches if s.load.rate == rate), None)
        rows[each.store] = {
            **{f"rate within {limit}": rate for limit, rate in each.capacity.within.items()},
            "peak per second": round(each.capacity.peak, 1),
            "CPU ms per call": None if at is None else round(at.cpu_ms, 3),
            "rate against echo": round(rate / echo.within[first], 3) if echo.within[first] else None,
            "overload": None if each.overload is None else f"{each.overload.factor:.1f}x",
            "goodput share": None if each.overload is None else round(each.overload.goodput_share, 3),
        }
    rows["echo"] = {
        **{f"rate within {limit}": rate for limit, rate in echo.within.items()},
        "peak per second": round(echo.peak, 1),
        "CPU ms per call": round(min(s.cpu_ms for s in echo.stretches), 3),
    }
    return rows


def summary_table(rows: dict[str, dict[str, Any]]) -> Table:
    """Return the figures of :func:`summary`, a row for each server."""
    heads = list(next(iter(rows.values())))
    shown = [[name, *("" if row.get(head) is None else str(row[head]) for head in heads)] for name, row in rows.items()]
    return Table(
        caption="Calls a second within limits, at the peak and under overload", heads=["server", *heads], rows=shown
    )
