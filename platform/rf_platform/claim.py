"""Claims: one process at a time for one thing, such as a run or the name of a bundle.

A claim is a lock on a file, which says in its text which process has it. It ends with that process, however it ends.
"""

import fcntl
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from rf_platform.errors import UsageError


@contextmanager
def claimed(path: Path, *, wait: bool = False) -> Iterator[bool]:
    """Lock a file for this process; yields whether it has the lock.

    Args:
        path: file to lock; its directory is made.
        wait: wait until the process that has the lock lets go of it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
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
