"""Directories of compacted catalogs, one for each bundle, and the removal of unused ones.

A process holds a shared lock on each directory that it uses; removal takes an exclusive one. Locks are taken on the directory
itself, end with the process at the latest, and leave no file behind.
"""

import os
import re
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree
from time import time
from uuid import uuid4
from weakref import finalize

from rf_platform.locks import lock

GRACE_SECONDS = 600.0
"""Time a directory is kept after its last use, for a restart or a rollback."""
_DIGITS = 12
_NAME = re.compile(rf".+-[0-9a-f]{{{_DIGITS}}}")
_REMOVED = ".removed-"


@dataclass(frozen=True)
class Removed:
    """A directory that is gone."""

    name: str
    bytes: int
    """Of its files."""


def directory_name(bundle: str, manifest_sha256: str) -> str:
    """Return the name of a bundle's directory; one that is built again under its old name gets another."""
    return f"{bundle}-{manifest_sha256[:_DIGITS]}"


def occupy(directory: Path, user: object) -> Callable[[], object]:
    """Make a directory if there is none, and keep it from being removed until ``user`` calls what is returned, or is no more.

    Raises:
        OSError: it cannot be made or opened.
    """
    while True:
        try:
            handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            _make(directory)
            continue
        try:
            lock(handle, shared=True)
            there = _is_at(handle, directory)
        except BaseException:
            os.close(handle)
            raise
        if there:
            _note_use(handle)
            return finalize(user, _let_go, handle)
        os.close(handle)  # removed before the lock was there: make it again


def remove_unused(cache: Path, needed: Collection[str], grace_seconds: float = GRACE_SECONDS) -> list[Removed]:
    """Remove the directories that are not in use, needed or lately used, and return them.

    Many processes may do it at once; what a killed one left half removed is removed by the next. Whatever else is there stays.

    Args:
        cache: where the directories of all bundles lie.
        needed: names of those to keep.
        grace_seconds: how long one is kept after its last use.
    """
    removed = []
    with suppress(OSError):  # there is none, or it cannot be read
        for path in sorted(cache.iterdir()):
            left = path.name.startswith(_REMOVED)
            if path.is_symlink() or not (left or (_NAME.fullmatch(path.name) and path.name not in needed)):
                continue
            with suppress(OSError):  # in use, gone meanwhile, or not ours
                size = _remove(path, 0 if left else grace_seconds)
                if size is not None:
                    name = path.name.removeprefix(_REMOVED).rpartition(".")[0] if left else path.name
                    removed.append(Removed(name, size))
    return removed


def _remove(path: Path, grace_seconds: float) -> int | None:
    """Remove a directory and return the bytes it had; None if it was used a moment ago, or cannot be removed."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        if not lock(handle, wait=False):
            return None
        found = os.fstat(handle)
        if not os.path.samestat(found, path.stat()) or time() - found.st_mtime < grace_seconds:
            return None
        if not path.name.startswith(_REMOVED):
            # From here on no process finds it, wherever the removal ends.
            path = path.rename(path.with_name(f"{_REMOVED}{path.name}.{uuid4().hex}"))
        size = _size(path)
        rmtree(path, ignore_errors=True)
        return None if path.exists() else size
    finally:
        os.close(handle)


def _make(directory: Path) -> None:
    """Make a directory unless there is one; another process may make or remove it at any moment."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    try:
        directory.mkdir()
    except FileExistsError:
        if directory.is_symlink():  # it leads nowhere
            raise


def _is_at(handle: int, path: Path) -> bool:
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(handle), path.stat())
    return False


def _size(directory: Path) -> int:
    return sum(Path(parent, name).lstat().st_size for parent, _, names in os.walk(directory) for name in names)


def _let_go(handle: int) -> None:
    _note_use(handle)
    os.close(handle)


def _note_use(handle: int) -> None:
    with suppress(OSError):  # it may be read only
        os.utime(handle)
