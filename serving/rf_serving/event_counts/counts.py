"""Counts of all events so far, and of those that come in."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rf_platform.data.event_log import LoggedEvent
from rf_platform.features.meanings import EVENT_TYPE, Rules, meaning_of
from rf_platform.features.spec import IdType
from rf_serving.event_counts.co_occurrence import CoOccurrence
from rf_serving.event_counts.counts_wanted import CountOf, FirstOf
from rf_serving.event_counts.decayed import DecayedCounts
from rf_serving.event_counts.first_times import FirstTimes
from rf_serving.event_counts.numbering import Numbering
from rf_serving.event_counts.whole_log import WholeLog
from rf_serving.wire.ids import typed


@dataclass(frozen=True, eq=False, kw_only=True)
class Counted:
    """Counts at one moment; never changes.

    Shapes: S items.
    """

    position: int
    """Number of the last event of the log that was counted."""
    ids: Sequence[int | str]
    """Of the items, the first S of which were counted; more may follow."""
    by: Mapping[CountOf | FirstOf, npt.NDArray[np.float64]]
    """[S]: decayed number of events of each item at the time of the newest of these events, or the time of the first one."""
    together: CoOccurrence
    """Items that the same users took; follows the events by itself."""


class EventCounts:
    """Takes in events in the order of the log; one thread at a time."""

    def __init__(self, rules: Rules, id_type: IdType, wanted: Collection[CountOf | FirstOf]) -> None:
        """Begin with nothing.

        Args:
            rules: meanings of events.
            id_type: of items.
            wanted: what is counted.
        """
        self._rules, self._id_type, self._position = rules, id_type, 0
        self._items: Numbering = Numbering()
        self._counts = {each: DecayedCounts(each.half_life_us) for each in wanted if isinstance(each, CountOf)}
        self._firsts = {each: FirstTimes() for each in wanted if isinstance(each, FirstOf)}
        self._together: CoOccurrence = CoOccurrence()

    @property
    def wanted(self) -> Collection[CountOf | FirstOf]:
        """Definitions of the counts."""
        return self._counts.keys() | self._firsts.keys()

    @property
    def position(self) -> int:
        """Number of the last event that was counted."""
        return self._position

    def begin(self, log: WholeLog) -> None:
        """Count all interactions so far."""
        for each, counts in self._counts.items():
            log.count(counts, each, self._items)
        for first, times in self._firsts.items():
            log.first(times, first, self._items)
        self._together.fill(log.pairs())
        self._position = log.position

    def add(self, events: Sequence[LoggedEvent]) -> None:
        """Count events of the log that follow the last one that was counted."""
        if not events:
            return
        meanings = [meaning_of(self._rules, event.values) for event in events]
        items = [typed(event.item_id, self._id_type) for event in events]
        numbers_E = self._items.numbers(items)
        times_E = np.array([event.timestamp_us for event in events], np.int64)
        values = [event.values for event in events]
        wanted_E = np.array([meaning == "wanted" for meaning in meanings])

        def counting(of: CountOf | FirstOf) -> npt.NDArray[np.bool_]:
            return np.array([str(v.get(EVENT_TYPE)) in of.event_types for v in values]) if of.event_types else wanted_E

        for each, counts in self._counts.items():
            chosen_E = counting(each)
            counts.add(numbers_E[chosen_E], times_E[chosen_E], each.parts_of(values)[chosen_E])
        for first, firsts in self._firsts.items():
            chosen_E = counting(first)
            firsts.add(numbers_E[chosen_E], times_E[chosen_E])
        self._together.add(
            (event.user_id, item)
            for event, item, meaning in zip(events, items, meanings, strict=True)
            if meaning == "wanted"
        )
        self._position = events[-1].sequence

    def counted(self) -> Counted:
        """Return the counts as they are now."""
        items = len(self._items)
        return Counted(
            position=self._position,
            ids=self._items.ids,
            by={each: counts.counts(items) for each, counts in self._counts.items()}
            | {each: times.counts(items) for each, times in self._firsts.items()},
            together=self._together,
        )
