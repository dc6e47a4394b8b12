"""Directories that appear atomically: readers see all or nothing, also after the writing process is killed.

What has its name is on disk, contents before names: it outlives a crash of the machine, too.
"""

import ctypes
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path
from uuid import uuid4

from rf_platform.files import sync, sync_tree
from rf_platform.interrupts import held
from rf_platform.locks import if_unlocked, make_locked

_HERE, _RENAME_EXCHANGE = -100, 2  # AT_FDCWD and RENAME_EXCHANGE of Linux's headers
_OLD = "old-"


MARKS = (".importing-", ".building-", ".starting-", ".training-", ".fetching-")
"""Prefixes of the platform's unfinished directories."""


@contextmanager
def scratch(parent: Path, mark: str, name: str = "work") -> Iterator[Path]:
    """Yield an empty directory that is removed when the block ends, also by an error or an interrupt.

    What a killed process left is removed by the next one with the same mark, and told of by `rf doctor`.

    Args:
        parent: where it lies; made if it is not there.
        mark: one of :data:`MARKS`, or another beginning of a name with a dot.
        name: what it is for, part of its name.
    """
    parent.mkdir(parents=True, exist_ok=True)
    with held():
        remove_abandoned(parent, mark)
    directory = lock = None
    try:
        with held():
            directory, lock = make_locked(parent, f"{mark}{name}")
        yield directory
    finally:
        with held():
            if directory is not None:
                shutil.rmtree(directory, ignore_errors=True)
            if lock is not None:
                os.close(lock)


@contextmanager
def staged(target: Path, mark: str, *, replace: bool = False) -> Iterator[Path]:
    """Yield an empty directory to write into, and rename it to ``target`` when the block ends without an error.

    The directory lies beside ``target``, so that the rename is atomic; everything is on disk before it. After an error or an
    interrupt nothing is left behind; see :func:`scratch` for what a killed process left.

    Args:
        target: where the directory will be.
        mark: how the names of unfinished directories begin, with a dot.
        replace: take the place of a directory that is there already, in one step where the system can (Linux can).

    Raises:
        FileExistsError: without ``replace``, the target exists when the block ends.
    """
    _put_back(target, mark)
    with scratch(target.parent, mark, target.name) as staging:
        yield staging
        publish(staging, target, mark, replace=replace)


def publish(directory: Path, target: Path, mark: str, *, replace: bool = False) -> None:
    """Sync a complete directory and rename it to ``target``; see :func:`staged`."""
    sync_tree(directory)
    with held():
        if replace and target.exists():
            exchange(directory, target, target.parent / f"{mark}{_OLD}{target.name}-{uuid4().hex}")
        else:
            _move(directory, target)
        sync(target.parent)


def _move(staging: Path, target: Path) -> None:
    if target.exists() or target.is_symlink():  # a rename would take the place of an empty one
        raise FileExistsError(f"{target} exists already")
    try:
        staging.rename(target)
    except OSError as error:
        if target.exists():
            raise FileExistsError(f"{target} exists already") from error
        raise


def exchange(staging: Path, target: Path, old: Path) -> None:
    """Replace a directory by another one: in one step where the system can (Linux can).

    Args:
        staging: the directory, on disk, see :func:`sync_tree`.
        target: the one that goes away.
        old: where it lies meanwhile, on other systems.
    """
    if _swap(staging, target):
        shutil.rmtree(staging, ignore_errors=True)
        return
    target.rename(old)
    try:
        staging.rename(target)
    except OSError:
        old.rename(target)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _swap(one: Path, other: Path) -> bool:
    """Exchange two directories in one step; False where the system cannot."""
    swap = getattr(ctypes.CDLL(None), "renameat2", None)
    return swap is not None and swap(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _RENAME_EXCHANGE) == 0


def _put_back(target: Path, mark: str) -> None:
    """Restore a directory that was put aside by a process which was killed before the new one had its name."""
    if not target.exists():
        for old in target.parent.glob(f"{mark}{_OLD}{escape(target.name)}-*"):
            if _put_aside(old, mark) != target:  # of another target with a longer name
                continue
            with suppress(FileNotFoundError):  # another process was faster
                old.rename(target)
                return


def _put_aside(path: Path, mark: str) -> Path | None:
    """Return the name that a directory had before it was put aside; None if it was not."""
    found = re.fullmatch(f"{re.escape(mark)}{_OLD}(.+)-[0-9a-f]{{32}}", path.name)
    return path.with_name(found[1]) if found else None


def abandoned(parent: Path, mark: str) -> list[Path]:
    """Return unfinished directories of processes that are gone: their lock is free.

    A directory that was put aside while its name is free is not among them: it is the only copy.
    """
    return [path for path in _rubbish(parent, mark) if if_unlocked(path, lambda _: None)]


def _rubbish(parent: Path, mark: str) -> Iterator[Path]:
    for path in parent.glob(f"{mark}*"):
        name = _put_aside(path, mark)
        if name is None or name.exists():
            yield path


def remove_abandoned(parent: Path, mark: str) -> None:
    """Remove what :func:`abandoned` returns."""
    for path in _rubbish(parent, mark):
        if_unlocked(path, shutil.rmtree)
