"""Publish a bundle all at once: nobody ever sees half of one, whenever the builder is killed."""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from rf_platform.bundle.manifest import MANIFEST
from rf_platform.bundle.name import check_name
from rf_platform.errors import UsageError

_STAGING = ".building-"


@contextmanager
def publish(target: Path) -> Iterator[Path]:
    """Give an empty directory to build a bundle in, and rename it to ``target`` when the block ends without an error.

    The directory lies beside ``target``, so that the rename is atomic; everything is on disk before it. The block must
    end with :func:`rf_platform.bundle.write_manifest`. After an error nothing is left behind; what a killed builder left
    is removed by the next one.

    Raises:
        UsageError: the name is not a safe path component, or the target exists (bundles never change).
    """
    check_name("bundle", target.name)
    target.parent.mkdir(parents=True, exist_ok=True)
    _refuse_existing(target)
    _remove_abandoned(target.parent)
    staging, lock = _stage(target)
    try:
        yield staging
        assert (staging / MANIFEST).is_file(), f"the builder of {target} did not call write_manifest"
        _sync_tree(staging)
        try:
            _refuse_existing(target)
            staging.rename(target)
        except OSError:
            _refuse_existing(target)  # another builder was faster
            raise
        _sync(target.parent)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    finally:
        os.close(lock)


def _refuse_existing(target: Path) -> None:
    if target.exists() or target.is_symlink():
        raise UsageError(f"the bundle directory {target} exists already and bundles never change; choose another name")


def _stage(target: Path) -> tuple[Path, int]:
    """Make a staging directory and hold a lock on it for as long as its builder lives."""
    while True:
        staging = target.parent / f"{_STAGING}{target.name}-{uuid4().hex}"
        staging.mkdir()
        with suppress(FileNotFoundError):  # swept by another builder before it was locked: make another
            lock = os.open(staging, os.O_RDONLY)
            fcntl.flock(lock, fcntl.LOCK_EX)
            if staging.exists():
                return staging, lock
            os.close(lock)


def _remove_abandoned(parent: Path) -> None:
    """Remove the staging directories whose builders are gone: nobody holds their lock any more."""
    for path in parent.glob(f"{_STAGING}*"):
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
            _sync(Path(parent, name))
        _sync(Path(parent))


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
