"""`rf bench serve`: servers in turn at fixed rates, their peaks, overload and a soak, beside bare echo servers."""

import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import grpc.aio
import numpy as np

from rf_bench.serve.echo import METHOD
from rf_bench.serve.native_programs import Tools
from rf_bench.serve.python_generator import run_on_time
from rf_bench.serve.rounds import ECHO, FLOOR, Rounds, run_rounds
from rf_bench.serve.soak import Changes, Soak, soak
from rf_bench.serve.stretch import Stretch, Target, stretch
from rf_bench.serve.workspace import Service
from rf_platform.errors import UsageError
from rf_platform.redaction import without_password
from rf_platform.registry import Registry
from rf_protos.v1.retrieval_pb2 import RetrieveRequest
from rf_serving.background_server import BackgroundServer

WARM_UP = ((50.0, 3.0), (400.0, 2.0))
"""Rates and seconds of the first load of every server."""
SOAK_SHARE = 0.25
"""Rate of a soak, of the peak."""


@dataclass(frozen=True, kw_only=True)
class ServeBenchmark:
    """Rates, rounds, and what a request asks for."""

    rates: tuple[float, ...] = (150, 500, 1000, 2000)
    """Calls a second."""
    rounds: int = 3
    seconds: float = 10.0
    """Time that each rate is held."""
    k: int = 20
    """Items a request asks for."""


@dataclass(frozen=True, kw_only=True)
class Server:
    """A server to be measured: a workspace with its online store, and options of ``rf serve``."""

    name: str
    service: Service
    options: Sequence[str]

    @classmethod
    def of(cls, service: Service, workers: int, options: str) -> "Server":
        """Return a server under the name that tells it from others."""
        store = without_password(service.settings.online_store_url or "sqlite")
        name = ", ".join(filter(None, [store, f"{workers} worker{'s' * (workers > 1)}", options]))
        return cls(name=name, service=service, options=["--workers", str(workers), *shlex.split(options)])

    @contextmanager
    def started(self, tools: Tools, k: int) -> Iterator[Target]:
        """Run the server in the block."""
        settings = self.service.settings
        environment = {"RF_ONLINE_STORE_URL": settings.online_store_url} if settings.online_store_url else {}
        arguments = ["--metrics-port", "0", "--log-level", "info", *self.options]
        with BackgroundServer(settings.home, arguments, environment, start_seconds=600) as server:
            yield Target(
                address=server.address,
                pid=server.process.pid,
                generator=tools.generator,
                requests=requests_of(self.service.users, k),
                metrics_url=f"http://127.0.0.1:{server.serving['metrics_port']}/metrics",
            )


def requests_of(users: Sequence[str], k: int, seed: int = 0) -> list[bytes]:
    """Return a serialised request for each user, in random order, seen items left out."""
    order = np.random.default_rng(seed).permutation(len(users))
    return [RetrieveRequest(user_id=users[place], k=k, exclude_seen=True).SerializeToString() for place in order]


def parse_rates(text: str) -> tuple[float, ...]:
    """Read rates such as ``150,500`` and return them rising.

    Raises:
        UsageError: something is no rate.
    """
    try:
        rates = sorted({float(each) for each in text.split(",")})
    except ValueError:
        rates = []
    if not rates or not 0 < rates[0] <= rates[-1] < float("inf"):
        raise UsageError(f"--rates={text!r} is no list of calls a second; write it like 150,500")
    return tuple(rates)


@contextmanager
def echo(command: Sequence[str], target: Target) -> Iterator[Target]:
    """Run an echo server in the block, for the requests of another server."""
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        address = f"127.0.0.1:{int(process.stdout.readline())}"
        yield Target(
            address=address, pid=process.pid, generator=target.generator, requests=target.requests, method=METHOD
        )
    finally:
        process.stdin.close()
        process.wait(10)
        process.stdout.close()


def measure(
    servers: Sequence[Server], options: ServeBenchmark, tools: Tools, note: Callable[[str], None] = lambda text: None
) -> Rounds:
    """Start servers and echoes, and load them in turn.

    Args:
        servers: with different names.
        options: rates and rounds.
        tools: load generator, and the echo in C.
        note: called with a line after every stretch.
    """
    with ExitStack() as stack:
        targets = {each.name: stack.enter_context(each.started(tools, options.k)) for each in servers}
        first = next(iter(targets.values()))
        reply = run_on_time(_warm_up(targets))
        echoes: Mapping[str, Sequence[str]] = {
            **({FLOOR: [str(tools.echo), str(reply)]} if tools.echo else {}),
            ECHO: [sys.executable, "-m", "rf_bench.serve.echo", str(reply)],
        }
        beside = {name: stack.enter_context(echo(command, first)) for name, command in echoes.items()}
        run_on_time(_warm_up(beside))
        return run_on_time(
            run_rounds(
                beside | targets,
                options.rates,
                options.rounds,
                options.seconds,
                lambda title, each: note(_line(title, each)),
            )
        )


async def _warm_up(targets: Mapping[str, Target]) -> int:
    """Load servers for the first time, and return the size of a reply."""
    size = 0.0
    for target in targets.values():
        for rate, seconds in WARM_UP:
            size = (await stretch(target, rate, seconds)).load.reply_bytes
    return round(size)


def measure_soak(server: Server, peak: float, minutes: float, options: ServeBenchmark, tools: Tools) -> Soak:
    """Start a server alone and load it while bundles, items and events change.

    Args:
        server: with two bundles.
        peak: calls a second that it can take.
        minutes: how long.
        options: what a request asks for.
        tools: load generator.
    """
    service = server.service
    registry = Registry.of(service.settings)

    async def run(target: Target) -> Soak:
        async with grpc.aio.insecure_channel(target.address) as channel:
            changes = Changes(channel, registry, service.bundles[::-1], service.users, seed=0)
            await changes.prepare(service.items)
            return await soak(target, changes, max(1.0, SOAK_SHARE * peak), minutes)

    with server.started(tools, options.k) as target:
        return run_on_time(run(target))


def _line(title: str, each: Stretch) -> str:
    load = each.load
    percentiles = ", ".join(f"p{q} {load.percentile(q):.2f}" for q in (50, 90, 99))
    failed = f"{each.failed_share:.2%} failed or degraded"
    return f"{title} at {load.rate:.0f}/s: {each.cpu_us:.0f} µs of CPU a call, {percentiles} ms, {failed}"
