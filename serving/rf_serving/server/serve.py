"""One server process: load a bundle, serve until a signal comes, drain."""

import asyncio
import gc
import signal
from collections.abc import Callable
from contextlib import ExitStack, closing
from time import perf_counter
from typing import Any

import structlog

from rf_platform.settings import Settings
from rf_serving.server.admission import Admission
from rf_serving.server.logs import START_LOG
from rf_serving.server.metrics import ServerMetrics, exposed
from rf_serving.server.options import ServeOptions
from rf_serving.server.parts import open_parts
from rf_serving.server.server import RetrievalServer
from rf_serving.server.tracing import open_tracing

Ready = Callable[[dict[str, Any]], None]
"""Is told that the server answers, and where."""


async def serve(
    settings: Settings, options: ServeOptions, ready: Ready | None = None, *, shared_port: bool = False
) -> bool:
    """Serve until SIGTERM or SIGINT; return whether all calls in flight were finished then.

    Args:
        settings: where things are.
        options: of the server.
        ready: is told when the server answers; default: a line in the log.
        shared_port: other processes of this server listen on the same port.

    Raises:
        RfError: the server cannot start.
    """
    log = structlog.get_logger("rf_serving")
    begin = perf_counter()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    metrics = ServerMetrics()
    admission = Admission(options.max_in_flight, options.queue_seconds)
    metrics.limit.set_function(lambda: admission.limit)
    with ExitStack() as ending:
        tracing = ending.enter_context(closing(open_tracing(settings)))
        server = RetrievalServer(options, metrics, admission, tracing, shared_port=shared_port)
        metrics_port = ending.enter_context(exposed(metrics.registry, options.metrics_host, options.metrics_port))
        parts = await asyncio.to_thread(lambda: ending.enter_context(open_parts(settings, metrics, options, admission)))
        bundle = parts.retriever.bundle
        await server.start(parts)
        # What is there now stays: full collections, also those after a swap, look at what came later only.
        gc.collect()
        gc.freeze()
        started = {
            "address": server.address,
            "host": options.host,
            "port": server.port,
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
        finished = await server.drain(options.drain_seconds)
        (log.info if finished else log.warning)("stopped", all_calls_finished=finished)
        return finished
