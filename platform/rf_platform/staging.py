"""Directories and files that appear all at once: nobody ever sees half of one, whenever the process that writes it is killed.

What has its name is on disk, contents before names: it outlives a crash of the machine, too.
"""

import ctypes
import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

_HERE, _RENAME_EXCHANGE = -100, 2  # AT_FDCWD and RENAME_EXCHANGE of Linux's headers


@contextmanager
def staged(target: Path, mark: str, *, replace: bool = False) -> Iterator[Path]:
    """Give an empty directory to write into, and rename it to ``target`` when the block ends without an error.

    The directory lies beside ``target``, so that the rename is atomic; everything is on disk before it. After an error
    nothing is left behind; what a killed process left is removed by the next one with the same mark.

    Args:
        target: where the directory will be.
        mark: how the names of unfinished directories begin, with a dot.
        replace: take the place of a directory that is there already, in one step where the system can (Linux can).

    Raises:
        FileExistsError: without ``replace``, the target exists when the block ends.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(target.parent, mark)
    staging, lock = _stage(target, mark)
    try:
        yield staging
        sync_tree(staging)
        if replace and target.exists():
            exchange(staging, target, target.parent / f"{mark}old-{uuid4().hex}")
        else:
            _move(staging, target)
        sync(target.parent)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    finally:
        os.close(lock)


def sync(path: Path) -> None:
    """Have the bytes of a file, or the names in a directory, on disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _stage(target: Path, mark: str) -> tuple[Path, int]:
    """Make a directory and hold a lock on it for as long as its process lives."""
    while True:
        staging = target.parent / f"{mark}{target.name}-{uuid4().hex}"
        staging.mkdir()
        with suppress(FileNotFoundError):  # swept by another process before it was locked: make another
            lock = os.open(staging, os.O_RDONLY)
            fcntl.flock(lock, fcntl.LOCK_EX)
            if staging.exists():
                return staging, lock
            os.close(lock)


def _move(staging: Path, target: Path) -> None:
    if target.exists() or target.is_symlink():  # a rename would take the place of an empty one
        raise FileExistsError(f"{target} exists already")
    try:
        staging.rename(target)
    except OSError as error:
        if target.exists():
            raise FileExistsError(f"{target} exists already") from error
        raise


def put_file(temporary: Path, target: Path) -> None:
    """Give a complete file its name, in the place of one that has it, when its bytes are on disk.

    Args:
        temporary: the file, in the directory of ``target``.
        target: its name.
    """
    sync(temporary)
    os.replace(temporary, target)
    sync(target.parent)


def exchange(staging: Path, target: Path, old: Path) -> None:
    """Put a directory in the place of another one, which goes away: in one step where the system can (Linux can).

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
    """Let two directories change places in one step; False where the system cannot."""
    swap = getattr(ctypes.CDLL(None), "renameat2", None)
    return swap is not None and swap(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _RENAME_EXCHANGE) == 0


def _remove_abandoned(parent: Path, mark: str) -> None:
    """Remove unfinished directories whose processes are gone: nobody holds their lock any more."""
    for path in parent.glob(f"{mark}*"):
        with suppress(FileNotFoundError, NotADirectoryError):
            lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(path)
            except BlockingIOError:
                pass
            finally:
                os.close(lock)


def sync_tree(directory: Path) -> None:
    """Have all files below a directory on disk, and their names."""
    for parent, _, names in os.walk(directory):
        for name in names:
            sync(Path(parent, name))
        sync(Path(parent))
