"""Files that appear atomically: readers see all or nothing, also after the writing process is killed."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from glob import escape
from pathlib import Path
from uuid import uuid4

from rf_platform.errors import UsageError
from rf_platform.failures import failure_of, writing
from rf_platform.interrupts import held
from rf_platform.locks import if_unlocked, make_locked

_PART = ".part"


@contextmanager
def new_file(target: Path, *, durable: bool = True, replace: bool = True, within: Path | None = None) -> Iterator[Path]:
    """Yield a path to write a file to, which becomes ``target`` when the block ends without an error.

    It lies beside the target, or beside the file that the target links to. After an error nothing is left behind, and a file that
    was there is as it was; what a killed process left is removed by the next one that writes the same file.

    Args:
        target: its name; the directory is made.
        durable: have it on disk when the block ends, so that it outlives a crash of the machine.
        replace: take the place of a file that is there when the block ends.
        within: another directory of the same disk for what is not finished, if the target's own has to stay as it is.

    Raises:
        FileExistsError: without ``replace``, the target exists when the block ends.
        RfError: the disk is full, or the directory may not be written to; the message names the target.
    """
    final = Path(os.path.realpath(target))
    place = within or final.parent
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        part = lock = None
        try:
            with held():
                for left in place.glob(f".{escape(final.name)}-*{_PART}"):
                    if_unlocked(left, Path.unlink, of=0)
                part, lock = make_locked(place, f".{final.name}", Path.touch, _PART)
            yield part
            if durable:
                sync(part)
            if replace:
                os.replace(part, final)
            else:
                os.link(part, final)
            if durable:
                sync(final.parent)
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


def check_output_file(option: str, file: Path | None) -> None:
    """Refuse a file that cannot be written, before anything is computed for it; None is fine.

    Raises:
        UsageError: it is no file, or its directory is not there or closed.
    """
    if file is None:
        return
    directory = Path(os.path.realpath(file)).parent  # it is written beside what is there, and takes its place
    writable = (not file.exists() or file.is_file()) and directory.is_dir() and os.access(directory, os.W_OK)
    if not writable:
        raise UsageError(
            f"{option} {file} cannot be written: it needs a file in a directory that is there and may be written to"
        )


def replace_text(target: Path, text: str) -> None:
    """Write a text file in the place of one that may be there; see :func:`new_file`."""
    with new_file(target) as part:
        part.write_text(text, encoding="utf-8")


def replace_link(link: Path, to: Path) -> None:
    """Make a symbolic link in the place of one that may be there."""
    temporary = link.with_name(f".{link.name}-{uuid4().hex}")
    with held():
        temporary.symlink_to(to)
        os.replace(temporary, link)


def sync(path: Path) -> None:
    """Sync the bytes of a file, or the names in a directory, to disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_tree(directory: Path) -> None:
    """Sync all files below a directory to disk, and their names."""
    for parent, _, names in os.walk(directory):
        for name in names:
            sync(Path(parent, name))
        sync(Path(parent))
