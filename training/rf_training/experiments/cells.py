"""One process at a time for one cell: several `rf ablate` of a workspace share the work."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def claimed(path: Path, *, wait: bool = False) -> Iterator[bool]:
    """Lock a file for this process; yields whether it has the lock.

    The lock ends with the block, or with the process, however that ends.

    Args:
        path: file to lock; its directory is made.
        wait: wait until the process that has the lock lets go of it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        yield True
