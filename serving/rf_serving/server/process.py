"""The two ways a server process runs: alone, or as one of several workers behind one port.

Imports nothing heavy by itself: the process that looks after the workers comes through here, too.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Coroutine
from contextlib import suppress
from multiprocessing import parent_process
from multiprocessing.connection import Connection
from threading import Thread
from typing import Any

from rf_platform.errors import RfError
from rf_platform.settings import Settings
from rf_serving.logs import configure_logs
from rf_serving.server.options import ServeOptions
from rf_serving.server.shared_port import check_free

READY, FAILED = "ready", "failed"


def run_alone(settings: Settings, options: ServeOptions) -> int:
    """Serve in this process until a signal comes, and return its exit code.

    Raises:
        RfError: the server cannot start.
    """
    configure_logs(options.log_level)
    # Before the libraries are imported, which takes seconds.
    check_free(options.host, options.port)
    if options.http_port is not None:
        check_free(options.host, options.http_port, "--http-port")
    from rf_serving.server.run import serve

    return 0 if _run(serve(settings, options)) else 1


def run_worker(number: int, settings: Settings, options: ServeOptions, reports: Connection) -> None:
    """Serve in a process of its own until a signal comes, or until the supervisor is gone; never returns.

    Args:
        number: of the worker, in its log lines and metrics.
        settings: where things are.
        options: of the server; the port is the shared one.
        reports: says ``(READY, details)`` or ``(FAILED, message, exit code)``.
    """
    # A terminal sends these to all of its processes; the supervisor tells us.
    for each in (signal.SIGINT, signal.SIGHUP):
        signal.signal(each, signal.SIG_IGN)
    from rf_serving.server.run import serve

    configure_logs(options.log_level, worker=number)
    Thread(target=_end_with_parent, name="rf-parent", daemon=True).start()
    code = 0
    try:
        if not _run(serve(settings, options, lambda details: _report(reports, READY, details), shared_port=True)):
            code = 1
    except RfError as error:
        code = error.exit_code
        _report(reports, FAILED, str(error), code)
    sys.stdout.flush()
    os._exit(code)


def _run(serving: Coroutine[Any, Any, bool]) -> bool:
    """Run a server in uvloop's event loop, where it is installed: a call costs a tenth less than in Python's own."""
    with suppress(ImportError):
        import uvloop

        asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    return asyncio.run(serving)


def _report(reports: Connection, *message: Any) -> None:
    reports.send(message)


def _end_with_parent() -> None:
    """Drain when the supervisor was killed: nothing else would end this process, and it would keep the port."""
    parent = parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)
