"""Input of a split protocol, and its assignment of each event to a split."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt

from rf_platform.dataset.user_chunks import UserChunk, release, user_chunks

TRAIN, VALIDATION, TEST, HISTORY = 0, 1, 2, 3
"""Split of an event: learned from; target of a validation case; target of a test case; seen only in the history of cases.

Of a user's events those to train on come first. After them there is at most one validation target and after it at most one
test target, each behind any number of ``HISTORY`` events; nothing follows the last target. So what precedes a target is the
history of its case, and nothing but the training events may be learned from.
"""

REMOVED = -1
"""Not part of the dataset at all."""


class EventLog(Protocol):
    """All events in the order of training: user, time, input order.

    Arrays are read when asked for, and may be memory-mapped: go through them by :func:`log_parts`.
    """

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
    """Split of each event, as decided by a protocol."""

    split: npt.NDArray[np.int8]
    """``[events]``: :data:`TRAIN`, :data:`VALIDATION`, :data:`TEST`, :data:`HISTORY` or :data:`REMOVED`."""
    facts: dict[str, Any] = field(default_factory=dict)
    """Facts that follow from the parameters and the data, such as the time of a cut, for the dataset's manifest."""


class SplitProtocol(Protocol):
    """A rule that splits the events of a dataset: a frozen dataclass with its parameters as fields."""

    name: ClassVar[str]
    """Name on the command line and in manifests."""

    def assign(self, log: EventLog) -> Assignment:
        """Decide about every event; equal logs give equal assignments."""

    def to_dict(self) -> dict[str, Any]:
        """Name and parameters, as plain values for JSON."""


@dataclass(frozen=True, kw_only=True, eq=False)
class LogPart:
    """Some consecutive users with all their events."""

    chunk: UserChunk
    """Users and events of the log in this part."""
    offsets: npt.NDArray[np.int64]
    """``[users + 1]``: user ``u`` of the part owns its events ``offsets[u]`` to ``offsets[u + 1]``."""
    item: npt.NDArray[np.int32]
    """``[events]``: item row."""

    @property
    def user(self) -> npt.NDArray[np.int64]:
        """``[events]``: user of the part."""
        return np.repeat(np.arange(len(self.offsets) - 1), np.diff(self.offsets))


def log_parts(log: EventLog) -> Iterator[LogPart]:
    """Go through a log some users at a time: a log can be larger than memory, and protocols decide user by user."""
    for chunk in user_chunks(log.offsets):
        offsets = log.offsets[chunk.users.start : chunk.users.stop + 1] - chunk.events.start
        yield LogPart(chunk=chunk, offsets=offsets, item=log.item[chunk.events])
        release(log.item)
