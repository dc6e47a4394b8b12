"""Time of the first event of each item, whatever the order in which events arrive.

Shapes: E events, S items.
"""

import numpy as np
import numpy.typing as npt

_NEVER = np.iinfo(np.int64).max


class FirstTimes:
    """Time of each item's first event; items are numbered from 0."""

    def __init__(self) -> None:
        self._first_S: npt.NDArray[np.int64] = np.zeros(0, np.int64)

    def add(self, slots_E: npt.NDArray[np.int64], times_us_E: npt.NDArray[np.int64]) -> None:
        """Take in events of items at times, given in microseconds since 1970."""
        if not len(slots_E):
            return
        if (missing := int(slots_E.max()) + 1 - len(self._first_S)) > 0:
            self._first_S = np.append(self._first_S, np.full(missing + missing // 4, _NEVER))
        np.minimum.at(self._first_S, slots_E, np.maximum(times_us_E, 1))

    def counts(self, items: int) -> npt.NDArray[np.float64]:
        """Return the time of each item's first event [S], in microseconds since 1970; 0 of one without any."""
        found_S = np.zeros(items)
        known = self._first_S[:items]
        found_S[: len(known)] = np.where(known == _NEVER, 0, known)
        return found_S
