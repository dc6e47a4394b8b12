"""Global temporal split: one moment for everyone, from which on everything is held out."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from rf_platform.dataset.protocols.event_log import (
    HISTORY,
    REMOVED,
    TEST,
    TRAIN,
    VALIDATION,
    Assignment,
    EventLog,
    log_parts,
)
from rf_platform.dataset.user_chunks import release, user_chunks
from rf_platform.errors import UsageError

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


Cut = float | datetime
"""A moment, or the share of all events before it."""


@dataclass(frozen=True, kw_only=True)
class Temporal:
    """Global temporal split: train before the first cut, validate between the cuts, test from the second one on.

    A user's target of a part is their first event in it. What a user did between the first cut and their last target is
    ``HISTORY``: known when the target happens, as it would be online, and never trained on. Later events are removed. A new
    user of a part has an empty history, or one without training events.
    """

    name: ClassVar[str] = "temporal"

    validation_cut: Cut = 0.8
    """Begin of the validation part; events at this moment belong to it."""
    test_cut: Cut = 0.9
    """Begin of the test part; events at this moment belong to it."""
    new_items_only: bool = False
    """A user's target of a part is their first event in it with an item that has no event before the part (row R24)."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        for flag, cut in (("--validation-cut", self.validation_cut), ("--test-cut", self.test_cut)):
            if isinstance(cut, float) and not 0 < cut < 1:
                raise UsageError(f"{flag}={cut} must lie between 0 and 1, the share of the events before the cut")
            if isinstance(cut, datetime) and cut.tzinfo is None:
                raise ValueError(f"{flag}={cut} has no time zone")
        if type(self.validation_cut) is type(self.test_cut) and self.validation_cut >= self.test_cut:  # type: ignore[operator]
            raise UsageError(
                f"--validation-cut={_plain(self.validation_cut)} must lie before --test-cut={_plain(self.test_cut)}"
            )

    def assign(self, log: EventLog) -> Assignment:
        """Find the moments of the cuts, then the targets.

        Raises:
            UsageError: No event lies before the first cut, or none between the cuts.
        """
        validation_from, test_from = self._cuts(log)
        parts = ((VALIDATION, validation_from, test_from), (TEST, test_from, None))
        before = {code: self._occurring(log, start) for code, start, _ in parts} if self.new_items_only else {}
        split = np.empty(log.offsets[-1], np.int8)
        for part in log_parts(log):
            timestamp, user = log.timestamp[part.chunk.events], part.user
            own = np.where(timestamp < validation_from, TRAIN, HISTORY).astype(np.int8)
            last_target = np.full(len(part.offsets) - 1, -1)
            for code, start, stop in parts:
                eligible = timestamp >= start
                if stop is not None:
                    eligible &= timestamp < stop
                if self.new_items_only:
                    eligible &= ~np.isin(part.item, before[code])
                rows = np.flatnonzero(eligible)
                users, first = np.unique(user[rows], return_index=True)
                own[rows[first]] = code
                last_target[users] = rows[first]
            late = np.arange(len(own)) > last_target[user]
            own[late & (own == HISTORY)] = REMOVED
            split[part.chunk.events] = own
            release(log.timestamp)
        facts = {"validation_from": _iso(validation_from), "test_from": _iso(test_from)}
        return Assignment(split=split, facts=facts)

    def _occurring(self, log: EventLog, until: int) -> npt.NDArray[np.int32]:
        """Items with an event before a moment."""
        items = np.zeros(0, np.int32)
        for part in log_parts(log):
            items = np.union1d(items, part.item[log.timestamp[part.chunk.events] < until])
            release(log.timestamp)
        return items

    def _cuts(self, log: EventLog) -> tuple[int, int]:
        earliest, latest = time_at(log, 0), time_at(log, int(log.offsets[-1]) - 1)
        first, second = (_moment(cut, log) for cut in (self.validation_cut, self.test_cut))
        span = f"the events lie between {_iso(earliest)} and {_iso(latest)}"
        if first <= earliest:
            raise UsageError(
                f"no event lies before --validation-cut={_plain(self.validation_cut)} ({_iso(first)}), so there is nothing to "
                f"train on; {span}"
            )
        if second <= first:
            raise UsageError(
                f"--validation-cut={_plain(self.validation_cut)} ({_iso(first)}) must lie before "
                f"--test-cut={_plain(self.test_cut)} ({_iso(second)}); {span}"
            )
        return first, second

    def to_dict(self) -> dict[str, Any]:
        """Name and parameters, as plain values for JSON; moments in ISO 8601."""
        return {
            "name": self.name,
            "validation_cut": _plain(self.validation_cut),
            "test_cut": _plain(self.test_cut),
            "new_items_only": self.new_items_only,
        }


def _moment(cut: Cut, log: EventLog) -> int:
    """Microseconds of a cut."""
    if isinstance(cut, datetime):
        return round(cut.timestamp() * 1_000_000)
    events = int(log.offsets[-1])
    return time_at(log, min(int(cut * events), events - 1))


def _iso(microseconds: int) -> str:
    return datetime.fromtimestamp(int(microseconds) / 1e6, UTC).isoformat()


def _plain(cut: Cut) -> float | str:
    return cut.isoformat() if isinstance(cut, datetime) else cut
