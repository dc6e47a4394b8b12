"""Locks between processes, on files and directories: a lock ends with its process, however that ends.

A claim is the lock of one process at a time for one thing, such as a run or the name of a bundle; the text of its file names the
process that has it.
"""

import fcntl
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any
from uuid import uuid4
from weakref import finalize

from rf_platform.errors import UnavailableError, UsageError


def lock(handle: int | IO[Any], *, shared: bool = False, wait: bool = True) -> bool:
    """Lock an open file or directory until it is closed; return whether it is locked, which without ``wait`` it may not be.

    Args:
        handle: a file, or its descriptor.
        shared: allow others that share it.
        wait: wait until the processes that have it let go of it.
    """
    try:
        fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    return True


@contextmanager
def locked(path: Path, refusal: str | None = None, *, shared: bool = False) -> Iterator[None]:
    """Hold the lock of a file or directory while the block runs.

    Args:
        path: what is locked; a directory must exist, and need not be writable; a file is made.
        refusal: what to say if another process holds it; None: wait.
        shared: allow others that share it.

    Raises:
        UnavailableError: another process holds it.
    """
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY if path.is_dir() else os.O_RDWR | os.O_CREAT, 0o666)
    try:
        if not lock(handle, shared=shared, wait=refusal is None):
            raise UnavailableError(f"{refusal}; wait for it to end")
        yield
    finally:
        os.close(handle)


class Lease:
    """Shared lock of a directory for as long as the object lives; :func:`if_unlocked` leaves such a directory alone."""

    def __init__(self, directory: Path) -> None:
        """Take the lock.

        Raises:
            UnavailableError: a process is removing the directory.
        """
        handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        finalize(self, os.close, handle)
        if not lock(handle, shared=True, wait=False):
            raise UnavailableError(f"{directory} is being removed by another process")


def make_locked(parent: Path, name: str, make: Callable[[Path], None] = Path.mkdir, end: str = "") -> tuple[Path, int]:
    """Make a directory, or an empty file, of a name of its own, and lock it; see :func:`if_unlocked`.

    Args:
        parent: where it lies.
        name: how its name begins.
        make: what makes it.
        end: how its name ends.

    Returns:
        Its path, and the descriptor that holds the lock until it is closed.
    """
    while True:
        path = parent / f"{name}-{uuid4().hex}{end}"
        make(path)
        with suppress(FileNotFoundError):  # swept by another process before it was locked: make another
            handle = os.open(path, os.O_RDONLY)
            lock(handle)
            if path.exists():
                return path, handle
            os.close(handle)


def if_unlocked(path: Path, act: Callable[[Path], object], of: int = os.O_DIRECTORY) -> bool:
    """Lock a directory, or file, and do something with it, unless a process has locked it; return whether it was done."""
    with suppress(FileNotFoundError, NotADirectoryError):
        handle = os.open(path, os.O_RDONLY | of, 0o666)
        try:
            if lock(handle, wait=False):
                act(path)
                return True
        finally:
            os.close(handle)
    return False


@contextmanager
def claimed(path: Path, *, wait: bool = False) -> Iterator[bool]:
    """Lock a file for this process; yields whether it has the lock.

    Args:
        path: file to lock; its directory is made.
        wait: wait until the process that has the lock lets go of it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as file:
        if not lock(file, wait=wait):
            yield False
            return
        _say(file, f"process {os.getpid()} ({_command()})")
        try:
            yield True
        finally:
            _say(file, "")


@contextmanager
def sole(path: Path, what: str) -> Iterator[None]:
    """Lock a file for this process, or refuse what another process is doing already.

    Args:
        path: file to lock; its directory is made.
        what: what is being done, as a sentence without its end: "run 'a' is being trained".

    Raises:
        UsageError: another process has the lock; the message names it.
    """
    with claimed(path) as mine:
        if not mine:
            raise UsageError(f"{what} by {holder(path)}; wait until it has ended, or end it")
        yield


def holder(path: Path) -> str:
    """Return the process that has a claim, in words."""
    return path.read_text(encoding="utf-8", errors="replace").strip() or "another process"


def _say(file: IO[str], text: str) -> None:
    try:
        file.truncate(0)
        file.write(text)
        file.flush()
    except OSError:  # the disk is full: the lock is what counts
        return


def _command() -> str:
    return " ".join(["rf", *sys.argv[1:]])[:200]
