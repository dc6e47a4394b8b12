"""Replace a directory as a whole: written beside it, then renamed, so that a failure leaves the earlier one untouched."""

import fcntl
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rf_platform.errors import UnavailableError


@contextmanager
def replacing(directory: Path) -> Iterator[Path]:
    """Yield an empty directory that takes the place of ``directory`` when the block ends without an error.

    A process that was killed leaves remains beside it, which the next one puts right.

    Raises:
        UnavailableError: another process is replacing the same directory.
    """
    directory.parent.mkdir(parents=True, exist_ok=True)
    fresh, previous = (directory.with_name(f".{directory.name}.{role}") for role in ("new", "previous"))
    with directory.with_name(f".{directory.name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UnavailableError(f"another import into {directory.parent} is running; wait for it to end") from error
        if previous.exists() and not directory.exists():
            previous.rename(directory)
        for remains in (fresh, previous):
            shutil.rmtree(remains, ignore_errors=True)
        fresh.mkdir()
        try:
            yield fresh
            if directory.exists():
                directory.rename(previous)
            fresh.rename(directory)
        finally:
            if previous.exists() and not directory.exists():
                previous.rename(directory)
            for remains in (fresh, previous):
                shutil.rmtree(remains, ignore_errors=True)
