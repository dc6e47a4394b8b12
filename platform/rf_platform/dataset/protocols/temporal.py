"""One moment for everyone: what happens from then on is held out."""

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
    user_of_event,
)
from rf_platform.errors import UsageError

Cut = float | datetime
"""A moment, or the share of all events before it."""


@dataclass(frozen=True, kw_only=True)
class Temporal:
    """Global temporal split: train before the first cut, validate between the cuts, test from the second one on.

    A user's target of a part is their first event in it. What a user did between the first cut and their last target is
    ``HISTORY``: known when the target happens, as it would be online, and never trained on. Later events are removed. A user
    who is new in a part has an empty history, or one without training events.
    """

    name: ClassVar[str] = "temporal"

    validation_cut: Cut = 0.8
    """Where the validation part begins; events at this moment belong to it."""
    test_cut: Cut = 0.9
    """Where the test part begins; events at this moment belong to it."""
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
        timestamp, item = log.timestamp, log.item
        validation_from, test_from = self._cuts(timestamp)
        user = user_of_event(log.offsets)
        split = np.where(timestamp < validation_from, TRAIN, HISTORY).astype(np.int8)
        last_target = np.full(len(log.offsets) - 1, -1)
        for code, start, stop in ((VALIDATION, validation_from, test_from), (TEST, test_from, None)):
            eligible = timestamp >= start
            if stop is not None:
                eligible &= timestamp < stop
            if self.new_items_only:
                eligible &= ~np.isin(item, np.unique(item[timestamp < start]))
            rows = np.flatnonzero(eligible)
            users, first = np.unique(user[rows], return_index=True)
            split[rows[first]] = code
            last_target[users] = rows[first]
        late = np.arange(len(split)) > last_target[user]
        split[late & (split == HISTORY)] = REMOVED
        facts = {"validation_from": _iso(validation_from), "test_from": _iso(test_from)}
        return Assignment(split=split, facts=facts)

    def _cuts(self, timestamp: npt.NDArray[np.int64]) -> tuple[int, int]:
        ordered = np.sort(timestamp)
        first, second = (_moment(cut, ordered) for cut in (self.validation_cut, self.test_cut))
        span = f"the events lie between {_iso(ordered[0])} and {_iso(ordered[-1])}"
        if first <= ordered[0]:
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


def _moment(cut: Cut, ordered: npt.NDArray[np.int64]) -> int:
    """Microseconds of a cut, given all times in order."""
    if isinstance(cut, datetime):
        return round(cut.timestamp() * 1_000_000)
    return int(ordered[min(int(cut * len(ordered)), len(ordered) - 1)])


def _iso(microseconds: int) -> str:
    return datetime.fromtimestamp(int(microseconds) / 1e6, UTC).isoformat()


def _plain(cut: Cut) -> float | str:
    return cut.isoformat() if isinstance(cut, datetime) else cut
