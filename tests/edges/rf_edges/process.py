"""A command in a process of its own, with a disk of its own if need be.

Processes are forks of one that has imported what commands import, so that a command costs what it does and not its imports.
"""

import ctypes
import json
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import Literal, NamedTuple

_PRELOAD = ["rf_edges.preloaded"]
_NEW_MOUNTS, _READ_ONLY, _BIND, _REMOUNT, _RECURSIVE, _PRIVATE = 0x00020000, 1, 4096, 32, 16384, 1 << 18
"""CLONE_NEWNS and the MS_* flags of Linux's headers."""

_FILLER = "filler"

Disk = Literal["read-only", "full"]


class Ended(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str
    files: dict[str, int]
    """What lay in the workspace afterwards, if the command had a disk of its own."""

    def check(self, *, finds: bool = False) -> "Ended":
        """Make sure that nothing raw came out: no traceback, and one sentence if it failed and does not look for faults."""
        assert "Traceback" not in self.out + self.err, self.err
        assert "Exception ignored" not in self.err, self.err
        assert "Errno" not in self.err, self.err
        if self.code in (1, 2) and not finds:
            assert self.sentence, self.err
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
        self.started = time.monotonic()

    @property
    def alive(self) -> bool:
        """Whether it has not ended yet."""
        return self._process.is_alive()

    def wait_for(self, what: Callable[[], object], seconds: float = 60) -> bool:
        """Wait until something is the case while the command runs; return whether it was."""
        end = time.monotonic() + seconds
        while not what():
            if not self.alive or time.monotonic() > end:
                return False
            time.sleep(0.002)
        return True

    def signal(self, number: int) -> None:
        """Send a signal."""
        if self._process.is_alive() and self._process.pid is not None:
            os.kill(self._process.pid, number)

    def ended(self) -> Ended:
        """Wait for its end."""
        self._process.join(120)
        assert self._process.exitcode is not None, "the command does not end"
        out, err = ((self._directory / name).read_text() for name in ("out", "err"))
        files = self._directory / "files"
        return Ended(self._process.exitcode, out, err, json.loads(files.read_text()) if files.exists() else {})


def start(
    arguments: Sequence[str],
    directory: Path,
    environment: Mapping[str, str],
    disk: tuple[Disk, Path] | None = None,
) -> Running:
    """Start ``rf`` with some arguments.

    Args:
        arguments: what is typed.
        directory: gets what it prints; made if it is not there.
        environment: variables beside those of this process; other ``RF_`` variables are dropped.
        disk: a directory that is read-only for the command, or full.
    """
    directory.mkdir(parents=True, exist_ok=True)
    context = _context()
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RF_")}
    process = context.Process(target=_run, args=(list(arguments), str(directory), {**kept, **environment}, disk))
    process.start()
    return Running(process, directory)


def _context() -> ForkServerContext:
    os.environ["PYTHONPATH"] = os.pathsep.join(
        path for path in sys.path if path
    )  # what the server of forks imports from
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOAD)
    return context


def can_mount() -> bool:
    """Return whether this process may mount file systems in a namespace of its own."""
    context = _context()
    trying = context.Process(target=_own_mounts)
    trying.start()
    trying.join()
    return trying.exitcode == 0


def _run(arguments: list[str], directory: str, environment: dict[str, str], disk: tuple[Disk, Path] | None) -> None:
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(os.path.join(directory, name), os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1, closefd=False) for number in (1, 2))
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["rf", *arguments]
    if disk is not None:
        _own_mounts()
        if disk[0] == "read-only":
            _mount(disk[1], disk[1], "", _BIND | _RECURSIVE)
            _mount(disk[1], disk[1], "", _BIND | _REMOUNT | _READ_ONLY)
        elif disk[0] == "full":
            _fill(disk[1])
    from rf_platform.cli import main

    try:
        main()
    finally:
        if disk is not None:  # its disk is seen by itself alone
            Path(directory, "files").write_text(json.dumps(listing(disk[1])))


def listing(directory: Path) -> dict[str, int]:
    """Return sizes of all that lies in a directory, by path."""
    return {
        str(path.relative_to(directory)): 0 if path.is_dir() else path.lstat().st_size
        for path in directory.rglob("*")
        if "__pycache__" not in path.parts and path.name != _FILLER
    }


def _own_mounts() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_NEW_MOUNTS) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
    _mount("none", "/", "", _RECURSIVE | _PRIVATE)


def _mount(source: str | Path, target: str | Path, kind: str, flags: int, options: str = "") -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(os.fsencode(source), os.fsencode(target), kind.encode(), flags, options.encode()) != 0:
        raise OSError(ctypes.get_errno(), f"mount {target}")


def _fill(directory: Path) -> None:
    """Put a copy of a directory on a disk of its own, which is full."""
    import shutil

    copy = directory.with_name(f"{directory.name}-full")
    size = sum(file.lstat().st_size + 8192 for file in directory.rglob("*"))
    copy.mkdir(exist_ok=True)
    _mount("tmpfs", copy, "tmpfs", 0, f"size={size + (1 << 20)}")
    shutil.copytree(directory, copy, dirs_exist_ok=True, symlinks=True)
    _mount(copy, directory, "", _BIND)
    with open(directory / _FILLER, "wb", buffering=0) as file:
        try:
            while file.write(bytes(4096)):
                pass
        except OSError:
            return
