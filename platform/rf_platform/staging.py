"""Directories and files that appear atomically: readers see all or nothing, also after the writing process is killed.

What has its name is on disk, contents before names: it outlives a crash of the machine, too.
"""

import ctypes
import fcntl
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path
from uuid import uuid4

from rf_platform.errors import UnavailableError
from rf_platform.failures import failure_of, writing
from rf_platform.interrupts import held

_PART = ".part"
_HERE, _RENAME_EXCHANGE = -100, 2  # AT_FDCWD and RENAME_EXCHANGE of Linux's headers
_OLD = "old-"


MARKS = (".importing-", ".building-", ".starting-", ".training-")
"""How the names of the platform's unfinished directories begin."""


@contextmanager
def scratch(parent: Path, mark: str, name: str = "work") -> Iterator[Path]:
    """Give an empty directory that goes away when the block ends, also by an error or an interrupt.

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
            directory, lock = _stage(parent, f"{mark}{name}")
        yield directory
    finally:
        with held():
            if directory is not None:
                shutil.rmtree(directory, ignore_errors=True)
            if lock is not None:
                os.close(lock)


@contextmanager
def staged(target: Path, mark: str, *, replace: bool = False) -> Iterator[Path]:
    """Give an empty directory to write into, and rename it to ``target`` when the block ends without an error.

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
    """Give a complete directory its name when all that is in it is on disk; see :func:`staged`."""
    sync_tree(directory)
    with held():
        if replace and target.exists():
            exchange(directory, target, target.parent / f"{mark}{_OLD}{target.name}-{uuid4().hex}")
        else:
            _move(directory, target)
        sync(target.parent)


@contextmanager
def locked(directory: Path, refusal: str | None = None, *, shared: bool = False) -> Iterator[None]:
    """Hold a directory's lock while the block runs; it ends with the process, however that ends.

    Args:
        directory: what is locked; it must exist, and need not be writable.
        refusal: what to say if another process holds it; None: wait.
        shared: allow others that share it.

    Raises:
        UnavailableError: another process holds it.
    """
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (fcntl.LOCK_NB if refusal else 0))
        except BlockingIOError as error:
            raise UnavailableError(f"{refusal}; wait for it to end") from error
        yield
    finally:
        os.close(handle)


def sync(path: Path) -> None:
    """Have the bytes of a file, or the names in a directory, on disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _stage(parent: Path, name: str, make: Callable[[Path], None] = Path.mkdir, end: str = "") -> tuple[Path, int]:
    """Make a directory, or an empty file, and hold a lock on it for as long as its process lives."""
    while True:
        staging = parent / f"{name}-{uuid4().hex}{end}"
        make(staging)
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


@contextmanager
def new_file(target: Path) -> Iterator[Path]:
    """Give a path to write a file to, which becomes ``target`` when the block ends without an error.

    It lies beside the target, or beside the file that the target links to. After an error nothing is left behind, and a file that
    was there is as it was; what a killed process left is removed by the next one that writes the same file.

    Raises:
        RfError: the disk is full, or the directory may not be written to; the message names the target.
    """
    final = Path(os.path.realpath(target))
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        part = lock = None
        try:
            with held():
                for left in final.parent.glob(f".{escape(final.name)}-*{_PART}"):
                    _if_abandoned(left, Path.unlink, of=0)
                part, lock = _stage(final.parent, f".{final.name}", Path.touch, _PART)
            yield part
            put_file(part, final)
        finally:
            with held():
                if part is not None:
                    part.unlink(missing_ok=True)
                if lock is not None:
                    os.close(lock)
    except Exception as error:
        failure = failure_of(error)
        if failure is None or not failure.machine:  # what is computed meanwhile fails in ways of its own
            raise
        with writing(target):
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


def _put_back(target: Path, mark: str) -> None:
    """Bring back what a process put aside that was killed before the new one had its name."""
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
    return [path for path in _rubbish(parent, mark) if _if_abandoned(path, lambda _: None)]


def _rubbish(parent: Path, mark: str) -> Iterator[Path]:
    for path in parent.glob(f"{mark}*"):
        name = _put_aside(path, mark)
        if name is None or name.exists():
            yield path


def remove_abandoned(parent: Path, mark: str) -> None:
    """Remove what :func:`abandoned` returns."""
    for path in _rubbish(parent, mark):
        _if_abandoned(path, shutil.rmtree)


def _if_abandoned(path: Path, act: Callable[[Path], object], of: int = os.O_DIRECTORY) -> bool:
    """Do something with an unfinished directory, or file, if it can be locked; return whether it could."""
    with suppress(FileNotFoundError, NotADirectoryError):
        lock = os.open(path, os.O_RDONLY | of)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            act(path)
            return True
        except BlockingIOError:
            return False
        finally:
            os.close(lock)
    return False


def sync_tree(directory: Path) -> None:
    """Have all files below a directory on disk, and their names."""
    for parent, _, names in os.walk(directory):
        for name in names:
            sync(Path(parent, name))
        sync(Path(parent))
