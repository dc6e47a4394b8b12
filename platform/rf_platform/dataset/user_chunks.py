"""Go through all events of a log some users at a time, in memory that does not grow with the log."""

import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

EVENTS_AT_ONCE = 1 << 20
"""Most events of a chunk, unless one user has more."""


@dataclass(frozen=True, kw_only=True)
class UserChunk:
    """Consecutive users with all their events."""

    users: slice
    """Rows of the users."""
    events: slice
    """Rows of their events."""


def user_chunks(offsets: npt.NDArray[np.integer[Any]]) -> Iterator[UserChunk]:
    """Go through the users of a log in order, some at a time: :data:`EVENTS_AT_ONCE`, at least one user.

    Args:
        offsets: ``[users + 1]``: user ``u`` owns the events ``offsets[u]`` to ``offsets[u + 1]``.
    """
    user, users = 0, len(offsets) - 1
    while user < users:
        first = int(offsets[user])
        last = max(int(np.searchsorted(offsets, first + EVENTS_AT_ONCE, side="right")) - 1, user + 1)
        yield UserChunk(users=slice(user, last), events=slice(first, int(offsets[last])))
        user = last


def release(*arrays: npt.NDArray[np.generic]) -> None:
    """Release the pages of memory-mapped arrays; they are read again when needed.

    An array that is not mapped from a file stays as it is.
    """
    for array in arrays:
        mapped = _map_of(array)
        if mapped is not None:
            mapped.madvise(mmap.MADV_DONTNEED)


def prefetch(array: npt.NDArray[np.generic], rows: slice) -> None:
    """Ask the system to read the given rows of a memory-mapped array ahead."""
    mapped = _map_of(array)
    if mapped is None or array.nbytes == 0 or rows.stop <= rows.start:
        return
    row = array.strides[0]
    begin = len(mapped) - array.nbytes + rows.start * row  # the rows come last in the file, after a header
    start = begin - begin % mmap.PAGESIZE
    mapped.madvise(mmap.MADV_WILLNEED, start, begin + (rows.stop - rows.start) * row - start)


def _map_of(array: npt.NDArray[np.generic]) -> mmap.mmap | None:
    base: object = array
    while isinstance(base, np.ndarray):
        base = base.base
    return base if isinstance(base, mmap.mmap) else None
