"""Log lines: JSON on standard output, one a line; coloured text on a terminal."""

import logging
import sys
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from threading import Lock, get_ident
from typing import Any

import structlog

from rf_platform.redaction import redactor

LEVELS = ("debug", "info", "warning", "error")
START_LOG = "rf_serving.start"
"""Logger of the line that has the address, which is written at any level."""


class Output:
    """Standard output, a line at a time; safe from any thread."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._holder: int | None = None
        self._held: list[str] = []

    def write(self, line: str) -> None:
        """Write a line, or keep it where this thread holds them back."""
        if self._holder == get_ident():
            self._held.append(line)
            return
        with self._lock:
            sys.stdout.write(line + "\n")
            sys.stdout.flush()

    @contextmanager
    def together(self) -> Iterator[None]:
        """Write the lines of this thread when the block ends, all at once; one thread at a time may use it."""
        self._holder = get_ident()
        try:
            yield
        finally:
            self._holder, held, self._held = None, self._held, []
            if held:
                self.write("\n".join(held))


OUTPUT = Output()


class _LineLogger:
    """Writes what the processors made of a line."""

    def __init__(self, name: str = "") -> None:
        self.name = name

    def write(self, line: str) -> None:
        OUTPUT.write(line)

    debug = info = warning = error = critical = exception = write


def configure_logs(level: str, worker: int | None = None) -> None:
    """Send structlog's and the standard library's log lines to standard output.

    Args:
        level: one of :data:`LEVELS`.
        worker: number of this process among several, for each line; None: it is alone.
    """
    threshold = logging.getLevelNamesMapping()[level.upper()]

    def above_level(logger: Any, name: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        # A line below the level ends here: every call has one.
        if structlog.processors.NAME_TO_LEVEL[name] < threshold and getattr(logger, "name", "") != START_LOG:
            raise structlog.DropEvent
        return line

    redacted = redactor()

    def without_secrets(logger: Any, name: str, line: Any) -> Any:
        return redacted(line)  # rendered: errors of libraries may quote them anywhere

    def with_worker(logger: Any, name: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        line["worker"] = worker
        return line

    shared: list[structlog.typing.Processor] = [
        *([with_worker] if worker is not None else []),
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    last: list[structlog.typing.Processor] = (
        [structlog.dev.ConsoleRenderer()]
        if sys.stdout.isatty()
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    )
    last.append(without_secrets)
    structlog.configure(
        # Not by way of the standard library: its records would take three times as long as the line.
        processors=[above_level, *shared, *last],
        logger_factory=_LineLogger,
        wrapper_class=structlog.make_filtering_bound_logger(min(threshold, logging.INFO)),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(max(logging.WARNING, threshold))
