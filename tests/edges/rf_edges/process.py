"""A command in a process of its own, hurt at an exact moment or on a disk of its own if need be.

Processes are forks of one that has imported what commands import, so that a command costs what it does and not its imports.
"""

import json
import multiprocessing
import os
import re
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import Any, Literal, NamedTuple

from rf_edges.disk import Disk, listing, own_disk

_PRELOAD = ["rf_edges.preloaded", "rf_edges.process"]
_SERVER = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
_REACHED = "reached"
_LIMIT_SECONDS = 240.0

Moment = tuple[str, str]
"""An audit event of Python and a text in its arguments: a file that is opened or renamed, a module that is imported."""


class Ended(NamedTuple):
    """How a command ended."""

    code: int
    """Its exit code, negative for a signal."""
    out: str
    err: str
    reached: bool
    """Whether it came to the moment where it was hurt."""
    disk: Mapping[str, Any]
    """Of a disk of its own: sizes of files ``before`` and ``after``, ``then`` as pairs of exit code and standard error."""

    def check(self, *codes: int, finds: bool = False) -> "Ended":
        """Check that nothing raw came out: no traceback, and one sentence if it failed and does not look for faults.

        Args:
            codes: exit codes that are right; none: any.
            finds: exit code 1 is an answer.
        """
        assert "Traceback" not in self.out + self.err, self.err
        assert "Exception" not in self.err, self.err
        assert not codes or self.code in codes, (self.code, self.err)
        if self.code in (1, 2) and not finds:
            assert self.sentence, self.err
            assert self.err.count("error: ") == 1, self.err
        return self

    @property
    def sentence(self) -> str:
        """What was said of a failure."""
        last = (self.err.strip().splitlines() or [""])[-1]
        return last.removeprefix("error: ") if last.startswith("error: ") else ""


class Running:
    """A command that was started."""

    def __init__(self, process: ForkServerProcess, directory: Path) -> None:
        self._process, self._directory = process, directory

    @property
    def alive(self) -> bool:
        """Whether it has not ended yet."""
        return self._process.is_alive()

    def reached(self) -> bool:
        """Wait until it is at its moment, or has ended; return which."""
        while not (there := (self._directory / _REACHED).exists()) and self.alive:
            self._process.join(0.005)
        return there

    def waits(self) -> bool:
        """Wait until it waits for a lock, or has ended; return which."""
        waiting = re.compile(rf"^\d+: -> .* {self._process.pid} ", re.MULTILINE)
        while not (there := waiting.search(Path("/proc/locks").read_text())) and self.alive:
            self._process.join(0.005)
        return there is not None

    def go_on(self) -> None:
        """Let it go on from the moment where it waits."""
        (self._directory / _REACHED).unlink(missing_ok=True)

    def signal(self, number: int) -> None:
        """Send a signal."""
        if self.alive and self._process.pid is not None:
            os.kill(self._process.pid, number)

    def ended(self) -> Ended:
        """Wait for its end."""
        self._process.join(_LIMIT_SECONDS)
        code = self._process.exitcode
        if code is None:
            self._process.kill()
        out, err = ((self._directory / name).read_text() for name in ("out", "err"))
        assert code is not None, f"the command does not end: {err}"
        disk = self._directory / "disk.json"
        on_disk = json.loads(disk.read_text()) if disk.exists() else {}
        return Ended(code, out, err, (self._directory / _REACHED).exists(), on_disk)


def start(
    arguments: Sequence[str],
    directory: Path,
    environment: Mapping[str, str],
    *,
    at: Moment | None = None,
    do: int | Literal["pause"] = "pause",
    disk: Disk | None = None,
) -> Running:
    """Start ``rf`` with some arguments.

    Args:
        arguments: what is typed.
        directory: gets what it prints; made if it is not there.
        environment: variables beside those of this process; other ``RF_`` variables are dropped.
        at: a moment at which it is hurt.
        do: the number of a signal that it gets there, or that it waits there, see :meth:`Running.go_on`.
        disk: the disk of its own on which its workspace lies.
    """
    directory.mkdir(parents=True, exist_ok=True)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RF_")}
    command = (list(arguments), directory, {**kept, **environment}, at, do)
    process = _context().Process(target=_run, args=(command, disk))
    process.start()
    return Running(process, directory)


def succeeds(function: Any, *arguments: Any) -> bool:
    """Return whether a function ends without an error in a process of its own."""
    process = _context().Process(target=function, args=arguments)
    process.start()
    process.join()
    return process.exitcode == 0


@cache
def _context() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOAD)
    with _environment({**_SERVER, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}):
        forkserver.ensure_running()
    return context


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _run(command: tuple[Any, ...], disk: Disk | None) -> None:
    if disk is None:
        _command(*command)
        return
    _, directory, environment, *_ = command
    home = own_disk(disk)
    before = listing(home)
    with disk.spoilt():
        code = _fork(command)
        after = listing(home)
    then: list[tuple[int | None, str]] = []
    for again in disk.then if code else ():
        place = directory / f"then-{len(then)}"
        place.mkdir()
        then.append((_fork((again, place, environment, None, "pause")), (place / "err").read_text()))
        if then[-1][0] == 0:
            break
    (directory / "disk.json").write_text(json.dumps({"before": before, "after": after, "then": then}))
    sys.exit(code)


def _fork(command: tuple[Any, ...]) -> int | None:
    process = multiprocessing.get_context("fork").Process(target=_command, args=command)
    process.start()
    process.join()
    return process.exitcode


def _command(
    arguments: Sequence[str], directory: Path, environment: Mapping[str, str], at: Moment | None, do: int | str
) -> None:
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(directory / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1, closefd=False) for number in (1, 2))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["rf", *arguments]
    if at is not None:
        _hurt(at, do, directory / _REACHED)
    from rf_platform.cli import main

    main()


def _hurt(at: Moment, do: int | str, reached: Path) -> None:
    """Do something at the first audit event that matches."""
    event, text = at
    done: list[bool] = []

    def heard(name: str, arguments: tuple[Any, ...]) -> None:
        if done or name != event or not any(text in str(each) for each in arguments):
            return
        done.append(True)
        reached.touch()
        if isinstance(do, int):
            os.kill(os.getpid(), do)
            return
        while reached.exists():
            time.sleep(0.005)

    sys.addaudithook(heard)
