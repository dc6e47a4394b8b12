"""What a protocol looks at, and what it says about each event."""

from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt

TRAIN, VALIDATION, TEST, HISTORY = 0, 1, 2, 3
"""Split of an event: learned from; target of a validation case; target of a test case; seen only in the history of cases.

Of a user's events those to train on come first. After them there is at most one validation target and after it at most one
test target, each behind any number of ``HISTORY`` events; nothing follows the last target. So what precedes a target is the
history of its case, and nothing but the training events may be learned from.
"""

REMOVED = -1
"""Not part of the dataset at all."""


class EventLog(Protocol):
    """All events in the order of training: user, time, input order. Arrays are read when asked for."""

    @property
    def offsets(self) -> npt.NDArray[np.int64]:
        """``[users + 1]``: user ``u`` owns the events ``offsets[u]`` to ``offsets[u + 1]``."""

    @property
    def item(self) -> npt.NDArray[np.int32]:
        """``[events]``: item row."""

    @property
    def timestamp(self) -> npt.NDArray[np.int64]:
        """``[events]``: microseconds since 1970, UTC."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Events:
    """An event log in memory."""

    offsets: npt.NDArray[np.int64]
    """See :attr:`EventLog.offsets`."""
    item: npt.NDArray[np.int32]
    """See :attr:`EventLog.item`."""
    timestamp: npt.NDArray[np.int64]
    """See :attr:`EventLog.timestamp`."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Assignment:
    """What a protocol decided."""

    split: npt.NDArray[np.int8]
    """``[events]``: :data:`TRAIN`, :data:`VALIDATION`, :data:`TEST`, :data:`HISTORY` or :data:`REMOVED`."""
    facts: dict[str, Any] = field(default_factory=dict)
    """What followed from the parameters and the data, such as the time of a cut, for the dataset's manifest."""


class SplitProtocol(Protocol):
    """A rule that splits the events of a dataset: a frozen dataclass whose fields are its parameters."""

    name: ClassVar[str]
    """What it is called on the command line and in manifests."""

    def assign(self, log: EventLog) -> Assignment:
        """Decide about every event; equal logs give equal assignments."""

    def to_dict(self) -> dict[str, Any]:
        """Name and parameters, as plain values for JSON."""


def user_of_event(offsets: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return the user row of every event."""
    return np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
