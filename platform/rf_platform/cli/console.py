"""Output of commands: tables and progress bars for people, JSON for programs."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from time import monotonic
from typing import Any, Protocol

from rich.console import Console, ConsoleOptions, RenderableType
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.segment import Segment
from rich.table import Table

_UNBOUNDED = 100_000
"""Columns of a file or a pipe, which have no width."""


class WholeConsole(Console):
    """Console that never cuts a value off: people copy names, paths and fingerprints out of its tables.

    On a terminal a table folds what does not fit; in a file or a pipe a line is as long as what it says.
    """

    def __init__(self, *, stderr: bool = False) -> None:
        width = None if (sys.stderr if stderr else sys.stdout).isatty() else _UNBOUNDED
        super().__init__(stderr=stderr, soft_wrap=True, width=width)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
        """Render anything; the columns of a table fold, but not of a grid, such as a row of progress bars."""
        if isinstance(renderable, Table) and renderable.box is not None:
            for column in renderable.columns:
                column.overflow, column.no_wrap = "fold", False
        yield from super().render(renderable, options)


@cache
def out_console() -> Console:
    """Console on standard output."""
    return WholeConsole()


@cache
def err_console() -> Console:
    """Console on standard error, where progress and errors go."""
    return WholeConsole(stderr=True)


def say(text: str, *, style: str | None = None, err: bool = False) -> None:
    """Write a text as it is, without markup: on standard output, or with ``err`` on standard error."""
    (err_console() if err else out_console()).print(text, style=style, highlight=False, markup=False, emoji=False)


def warn(text: str) -> None:
    """Write a warning to standard error."""
    err_console().print(f"[yellow]warning:[/] {escape(text)}", highlight=False, emoji=False)


def print_json(value: Any) -> None:
    """Write one JSON document to standard output."""
    sys.stdout.write(json.dumps(value, indent=2, default=str) + "\n")


class Tracker(Protocol):
    """Receives the progress of one task."""

    def advance(self, steps: float = 1, note: str = "") -> None:
        """Record that ``steps`` more are done; ``note`` is a short text such as the current loss."""


class _BarTracker:
    def __init__(self, progress: Progress, task: Any) -> None:
        self._progress, self._task = progress, task

    def advance(self, steps: float = 1, note: str = "") -> None:
        self._progress.update(self._task, advance=steps, note=note)


class _LineTracker:
    """Plain lines for logs: at most one every ``interval`` seconds, with an estimate of what is left."""

    def __init__(self, description: str, total: float, interval: float = 10.0) -> None:
        self._description, self._total, self._interval = description, total, interval
        self._done, self._start = 0.0, monotonic()
        self._last = self._start

    def advance(self, steps: float = 1, note: str = "") -> None:
        self._done += steps
        now = monotonic()
        finished = self._done >= self._total
        if now - self._last < self._interval and not finished:
            return
        self._last = now
        elapsed = now - self._start
        left = "" if finished or not self._done else f", {elapsed / self._done * (self._total - self._done):.0f} s left"
        done = f"{self._done:g}/{self._total:g} in {elapsed:.1f} s{left}"
        say(f"{self._description}: {done} {note}".rstrip(), err=True)


class _SilentTracker:
    def advance(self, steps: float = 1, note: str = "") -> None:
        pass


@contextmanager
def track(description: str, total: float, *, visible: bool = True) -> Iterator[Tracker]:
    """Show the progress of a task of ``total`` steps: a bar with ETA on a terminal, plain lines otherwise.

    Args:
        description: what is done.
        total: number of steps.
        visible: False shows nothing: another process shows it.
    """
    if not visible:
        yield _SilentTracker()
        return
    console = err_console()
    if not console.is_terminal:
        yield _LineTracker(description, total)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console) as progress:
        yield _BarTracker(progress, progress.add_task(description, total=total, note=""))
