"""One server process: load a bundle, serve until a signal comes, drain."""

import asyncio
import gc
import os
import signal
import sys
from collections.abc import Callable, Iterable
from contextlib import ExitStack, closing
from time import perf_counter
from typing import Any

import structlog

from rf_platform.settings import Settings
from rf_serving.logs import START_LOG
from rf_serving.server.admission import Admission
from rf_serving.server.metrics import ServerMetrics, exposed
from rf_serving.server.options import ServeOptions
from rf_serving.server.server import RetrievalServer
from rf_serving.server.tracing import open_tracing
from rf_serving.server.wiring import build_components

Ready = Callable[[dict[str, Any]], None]
"""Is told that the server answers, and where."""


async def serve(
    settings: Settings, options: ServeOptions, ready: Ready | None = None, *, shared_port: bool = False
) -> bool:
    """Serve until SIGTERM, SIGHUP or SIGINT; return whether all calls in flight were finished then.

    A second signal cuts off what is in flight. One that comes before the server answers ends the process, with exit code 0.

    Args:
        settings: where things are.
        options: of the server.
        ready: is told when the server answers; default: a line in the log.
        shared_port: other processes of this server listen on the same port; the one that looks after them tells this one to stop,
            by SIGTERM, also for Ctrl-C.

    Raises:
        RfError: the server cannot start.
    """
    log = structlog.get_logger("rf_serving")
    begin = perf_counter()
    stop, hurry = _signals((signal.SIGTERM,) if shared_port else (signal.SIGTERM, signal.SIGINT, signal.SIGHUP))
    metrics = ServerMetrics()
    admission = Admission(options.max_in_flight, options.queue_seconds)
    metrics.limit.set_function(lambda: admission.limit)
    with ExitStack() as ending:
        tracing = ending.enter_context(closing(open_tracing(settings)))
        server = RetrievalServer(options, metrics, admission, tracing, shared_port=shared_port)
        metrics_port = ending.enter_context(exposed(metrics.registry, options.metrics_host, options.metrics_port))
        opening = asyncio.create_task(
            asyncio.to_thread(lambda: ending.enter_context(build_components(settings, metrics, options, admission)))
        )
        if not await _before(opening, stop):
            log.info("stopped", serving=False)
            sys.stdout.flush()
            os._exit(0)  # what is being read cannot be told to stop, and nothing is written yet
        parts = opening.result()
        bundle = parts.retriever.bundle
        await server.start(parts)
        # What is there now stays: full collections, also those after a swap, look at what came later only.
        gc.collect()
        gc.freeze()
        started = {
            "address": server.address,
            "host": options.host,
            "port": server.port,
            **({"http_port": server.http_port} if server.http_port is not None else {}),
            "bundle": bundle.name,
            "items": len(bundle.item_ids),
            "index": bundle.manifest.index.kind,
            "load_seconds": round(perf_counter() - begin, 3),
            **({"metrics_port": metrics_port} if metrics_port is not None else {}),
        }
        del bundle  # else it would be kept in memory after another has taken over
        if ready is None:
            structlog.get_logger(START_LOG).info("serving", **started)
        else:
            ready(started)
        await stop.wait()
        log.info("draining", seconds=options.drain_seconds)
        draining = asyncio.create_task(server.drain(options.drain_seconds))
        cut = 0
        if not await _before(draining, hurry):
            cut = server.active
            log.info("cutting off", calls=cut)
            await server.cut()
        finished = await draining and not cut
        (log.info if finished else log.warning)("stopped", all_calls_finished=finished)
        return finished


def _signals(numbers: Iterable[signal.Signals]) -> tuple[asyncio.Event, asyncio.Event]:
    """Return what the first and what the second signal sets; a process that was told to ignore SIGHUP goes on to do so."""
    first, second = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in numbers:
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
            loop.add_signal_handler(number, lambda: (second if first.is_set() else first).set())
    return first, second


async def _before(task: "asyncio.Task[Any]", event: asyncio.Event) -> bool:
    """Wait for a task or an event; say whether the task ended, well or not, before the event came."""
    waiting = asyncio.create_task(event.wait())
    await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    return task.done()
