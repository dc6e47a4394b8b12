"""The time of the n-th event of a log, without sorting all of them at once."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from rf_platform.dataset.protocols.event_log import EventLog
from rf_platform.dataset.user_chunks import release, user_chunks

BINS = 4096
"""Parts that the span of time is divided into in a pass over the log."""
SORTED_AT_ONCE = 1 << 20
"""Most times that are sorted together."""


def time_at(log: EventLog, position: int) -> int:
    """Return the time of the event at ``position`` if all events were ordered by time, in microseconds since 1970.

    Every pass counts the events in equal parts of a span of time, and the next one looks at the part that the position is in,
    until it holds few enough to sort, or a single moment.
    """
    assert 0 <= position < log.offsets[-1]
    extremes = [(int(times.min()), int(times.max())) for times in _parts(log)]
    low, high = min(pair[0] for pair in extremes), max(pair[1] for pair in extremes)  # both inclusive
    inside = int(log.offsets[-1])
    while inside > SORTED_AT_ONCE and low < high:
        width = -(-(high - low + 1) // BINS)
        counts = sum(np.bincount(_within(times, low, high) // width, minlength=BINS) for times in _parts(log))
        reach = np.cumsum(counts)
        part = int(np.searchsorted(reach, position, side="right"))
        position -= int(reach[part - 1]) if part else 0
        inside = int(reach[part]) - (int(reach[part - 1]) if part else 0)
        low, high = low + part * width, min(low + (part + 1) * width - 1, high)
    if low == high:
        return low
    left = np.concatenate([_within(times, low, high) for times in _parts(log)])
    return low + int(np.partition(left, position)[position])


def _parts(log: EventLog) -> Iterator[npt.NDArray[np.int64]]:
    for chunk in user_chunks(log.offsets):
        if chunk.events.stop > chunk.events.start:
            yield log.timestamp[chunk.events]
            release(log.timestamp)


def _within(times: npt.NDArray[np.int64], low: int, high: int) -> npt.NDArray[np.int64]:
    """Return the times in a span, counted from its beginning."""
    since: npt.NDArray[np.int64] = times[(times >= low) & (times <= high)] - low
    return since
