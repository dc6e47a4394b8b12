"""Counts that halve with every half-life, the same whatever the order in which events arrive.

An event at time ``t`` weighs ``2^(t / half-life)``, relative to the moment at which counts are asked for. The weight is kept in
two integers: the number of whole half-lives, and a weight from 1 to 2 of the rest, in fixed point, taken from a table. Sums of
integers do not depend on their order, so all processes have equal counts, whenever they began to count.

Shapes: E events, S items.
"""

import numpy as np
import numpy.typing as npt

from rf_serving.event_counts.counts_wanted import PARTS

STEPS = 4096
"""Steps of a half-life: the time of an event is rounded down to one, an error of at most 0.017% of its weight."""
SCALE = 1 << 20
"""Weight of an event at the beginning of a half-life."""
TABLE: npt.NDArray[np.int64] = np.rint(np.exp2(np.arange(STEPS) / STEPS) * SCALE).astype(np.int64)
"""Weight of an event by the step it falls on."""
HORIZON = 64
"""Half-lives after which an event is forgotten: it weighs less than the rounding of a new one."""
_SLOT_BITS = 32


class DecayedCounts:
    """Decayed number of events of each item; items are numbered from 0."""

    def __init__(self, half_life_us: int) -> None:
        """``half_life_us``: in microseconds, at least :data:`STEPS`."""
        self.step_us = max(1, half_life_us // STEPS)
        """Microseconds of a step."""
        self.newest_us = 0
        """Time of the newest event."""
        self._keys: npt.NDArray[np.int64] = np.zeros(0, np.int64)
        """Half-life and item of each sum, rising."""
        self._sums: npt.NDArray[np.int64] = np.zeros(0, np.int64)

    def add(
        self,
        slots_E: npt.NDArray[np.int64],
        times_us_E: npt.NDArray[np.int64],
        parts_E: npt.NDArray[np.int64] | None = None,
    ) -> None:
        """Count events of items at times, given in microseconds since 1970; ``parts_E``: weight of each, as 1 if None."""
        parts_E = np.full(len(slots_E), PARTS) if parts_E is None else parts_E
        count_E = parts_E > 0
        slots_E, times_us_E, parts_E = slots_E[count_E], times_us_E[count_E], parts_E[count_E]
        if not len(slots_E):
            return
        steps_E = np.maximum(times_us_E, 0) // self.step_us
        self.add_sums(slots_E, steps_E // STEPS, parts_E * TABLE[steps_E % STEPS], int(times_us_E.max()))

    def add_sums(
        self,
        slots_E: npt.NDArray[np.int64],
        half_lives_E: npt.NDArray[np.int64],
        sums_E: npt.NDArray[np.int64],
        newest_us: int,
    ) -> None:
        """Count events by sums of their weights, made elsewhere, for each item and half-life.

        Args:
            slots_E: items.
            half_lives_E: whole half-lives since 1970.
            sums_E: weights in units of 1 / (:data:`SCALE` · :data:`~rf_serving.event_counts.counts_wanted.PARTS`).
            newest_us: time of the newest of the events.
        """
        keys, places = np.unique(half_lives_E << _SLOT_BITS | slots_E, return_inverse=True)
        sums = np.zeros(len(keys), np.int64)
        np.add.at(sums, places, sums_E)
        at = np.asarray(self._keys.searchsorted(keys))
        there = np.zeros(len(keys), np.bool_)
        inside = at < len(self._keys)
        there[inside] = self._keys[at[inside]] == keys[inside]
        self._sums[at[there]] += sums[there]
        self._keys = np.insert(self._keys, at[~there], keys[~there])
        self._sums = np.insert(self._sums, at[~there], sums[~there])
        self.newest_us = max(self.newest_us, newest_us)
        oldest = (self.newest_us // self.step_us // STEPS - HORIZON) << _SLOT_BITS
        if len(self._keys) and self._keys[0] < oldest:
            kept = self._keys.searchsorted(oldest)
            self._keys, self._sums = self._keys[kept:], self._sums[kept:]

    def counts(self, items: int) -> npt.NDArray[np.float64]:
        """Return the decayed number of events of each item at the time of the newest event [S]."""
        now = self.newest_us / self.step_us / STEPS
        half_lives = self._keys >> _SLOT_BITS
        slots = self._keys & ((1 << _SLOT_BITS) - 1)
        weights = self._sums * np.exp2(half_lives - now) / (SCALE * PARTS)
        return np.bincount(slots, weights, minlength=items).astype(np.float64)
