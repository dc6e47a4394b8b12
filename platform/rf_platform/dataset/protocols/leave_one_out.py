"""Hold out the last two events of each user."""

from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from rf_platform.dataset.protocols.event_log import REMOVED, TEST, TRAIN, VALIDATION, Assignment, EventLog

MIN_EVENTS = 3
"""A user with fewer events is for training only."""


@dataclass(frozen=True, kw_only=True)
class LeaveOneOut:
    """The last event of a user is the test target and the one before it the validation target (row R16).

    Users with fewer than :data:`MIN_EVENTS` events are for training only. Nothing is removed. Almost all targets are warm.
    """

    name: ClassVar[str] = "leave-one-out"

    def assign(self, log: EventLog) -> Assignment:
        """Split by the number of events of each user."""
        return Assignment(split=last_two_held_out(log.offsets))

    def to_dict(self) -> dict[str, Any]:
        """Name and parameters, as plain values for JSON."""
        return {"name": self.name, **asdict(self)}


def last_two_held_out(
    offsets: npt.NDArray[np.int64], kept: npt.NDArray[np.bool_] | None = None
) -> npt.NDArray[np.int8]:
    """Return the split of all events if those that are not ``kept`` had never happened; they are ``REMOVED``."""
    if kept is None:
        split = np.full(offsets[-1], TRAIN, np.int8)
        counts, ends, rows = np.diff(offsets), offsets[1:], None
    else:
        split = np.where(kept, TRAIN, REMOVED).astype(np.int8)
        before = np.concatenate([[0], np.cumsum(kept)])[offsets]
        counts, ends, rows = np.diff(before), before[1:], np.flatnonzero(kept)
    ends = ends[counts >= MIN_EVENTS]
    for code, from_end in ((TEST, 1), (VALIDATION, 2)):
        split[ends - from_end if rows is None else rows[ends - from_end]] = code
    return split
