"""Directories that appear all at once: nobody ever sees half of one, whenever the process that writes it is killed."""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4


@contextmanager
def staged(target: Path, mark: str, *, replace: bool = False) -> Iterator[Path]:
    """Give an empty directory to write into, and rename it to ``target`` when the block ends without an error.

    The directory lies beside ``target``, so that the rename is atomic; everything is on disk before it. After an error
    nothing is left behind; what a killed process left is removed by the next one with the same mark.

    Args:
        target: where the directory will be.
        mark: how the names of unfinished directories begin, with a dot.
        replace: remove a directory that is there already, when the new one is complete.

    Raises:
        OSError: without ``replace``, the target exists when the block ends.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(target.parent, mark)
    staging, lock = _stage(target, mark)
    try:
        yield staging
        _sync_tree(staging)
        if replace and target.exists():
            target.rename(old := target.parent / f"{mark}old-{uuid4().hex}")
            try:
                staging.rename(target)
            except OSError:
                old.rename(target)
                raise
            shutil.rmtree(old, ignore_errors=True)
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
    staging.rename(target)


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


def _sync_tree(directory: Path) -> None:
    for parent, _, names in os.walk(directory):
        for name in names:
            sync(Path(parent, name))
        sync(Path(parent))
