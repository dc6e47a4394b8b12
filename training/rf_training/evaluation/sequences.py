"""Event sequences of a dataset version, ordered by user and time, each event with its split; rows of different length."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from rf_platform.dataset.aside import Aside
from rf_platform.dataset.protocols.leave_one_out import last_two_held_out
from rf_platform.dataset.user_chunks import UserChunk, release, user_chunks
from rf_platform.errors import DataError


@dataclass(frozen=True, eq=False)
class Jagged:
    """Rows of different length: row ``b`` is ``values[offsets[b]:offsets[b + 1]]``; a row may be empty."""

    values: npt.NDArray[np.int32]
    """``[total]``: item rows; in a history the oldest event comes first."""
    offsets: npt.NDArray[np.int64]
    """``[B + 1]``, starting at 0 and ending at ``total``."""

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """``[B]``: number of values of each row."""
        return np.diff(self.offsets)

    @property
    def row_of_value(self) -> npt.NDArray[np.int64]:
        """``[total]``: the row that each value belongs to."""
        return np.repeat(np.arange(len(self), dtype=np.int64), self.lengths)

    def last(self, count: int) -> "Jagged":
        """Return the last ``count`` values of each row, or the whole row where it is shorter."""
        lengths = np.minimum(self.lengths, count)
        return gather(self.values, self.offsets[1:] - lengths, self.offsets[1:])


def gather(values: npt.NDArray[np.integer[Any]], starts: npt.NDArray[np.int64], stops: npt.NDArray[np.int64]) -> Jagged:
    """Copy the slices ``values[starts[b]:stops[b]]`` into a :class:`Jagged` that shares no memory with ``values``."""
    lengths = stops - starts
    offsets = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(lengths)])
    positions = np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], lengths)
    return Jagged(values[positions].astype(np.int32, copy=False), offsets)


class Split(IntEnum):
    """Code of an event in :attr:`Sequences.split`."""

    TRAIN = 0
    VALIDATION = 1
    TEST = 2
    HISTORY = 3
    """Part of the history of a later target, but neither learned from nor a target itself."""

    @property
    def label(self) -> str:
        """Lower-case name, as reports and messages show it."""
        return self.name.lower()


class Sequences(Protocol):
    """Events of all users as flat arrays, ordered by (user, time, input order); they may be memory-mapped."""

    @property
    def offsets(self) -> npt.NDArray[np.integer[Any]]:
        """``[n_users + 1]``: the events of user row ``u`` are rows ``offsets[u]`` to ``offsets[u + 1]``."""

    @property
    def item(self) -> npt.NDArray[np.integer[Any]]:
        """``[n_events]``: item row of each event."""

    @property
    def split(self) -> npt.NDArray[np.integer[Any]]:
        """``[n_events]``: :class:`Split` code of each event, in the order that :func:`check_sequences` checks."""

    @property
    def aside(self) -> Aside | None:
        """Events that are in no history, of items that their users have seen; None where there are no such."""

    @property
    def hidden(self) -> npt.NDArray[np.bool_] | None:
        """``[n_items]``: items that are not recommendable, which no ranking has; None where there are none."""


@dataclass(frozen=True, eq=False)
class EventSequences:
    """Sequences in memory, for data that is not a dataset version."""

    offsets: npt.NDArray[np.int64]
    """See :attr:`Sequences.offsets`."""
    item: npt.NDArray[np.int32]
    """See :attr:`Sequences.item`."""
    split: npt.NDArray[np.int8]
    """See :attr:`Sequences.split`."""
    aside: Aside | None = None
    """See :attr:`Sequences.aside`."""
    hidden: npt.NDArray[np.bool_] | None = None
    """See :attr:`Sequences.aside`."""

    @classmethod
    def leave_one_out(cls, user_items: Sequence[Sequence[int]]) -> "EventSequences":
        """Hold out the last event of each user for test and the one before it for validation.

        Args:
            user_items: Item rows of each user's events, oldest first. Users with fewer than three events are for
                training only.
        """
        lengths = np.array([len(items) for items in user_items], dtype=np.int64)
        offsets = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(lengths)])
        item = np.array([item for items in user_items for item in items], dtype=np.int32)
        return cls(offsets, item, last_two_held_out(offsets))


def check_sequences(sequences: Sequences, *, n_items: int) -> None:
    """Make sure that every event lies before the events held out after it, and names an item of the catalog.

    A user's training events come first, then at most one validation and then at most one test event; events that only
    histories know may lie anywhere behind the training events.

    Raises:
        DataError: If the arrays do not fit together, an item row is outside ``[0, n_items)``, a split code is unknown,
            a user has two events in one held-out split, or an event comes behind one of a later split.
    """
    offsets, item, split = sequences.offsets, sequences.item, sequences.split
    if len(item) != len(split) or len(offsets) == 0 or offsets[0] != 0 or offsets[-1] != len(item):
        raise DataError(
            f"The event sequences do not fit together: {len(item)} items, {len(split)} split codes, offsets from "
            f"{offsets[:1].tolist()} to {offsets[-1:].tolist()}. Rebuild the dataset."
        )
    if np.any(np.diff(offsets) < 0):
        user = int(np.flatnonzero(np.diff(offsets) < 0)[0])
        raise DataError(f"The event offsets fall after user row {user}. Rebuild the dataset.")
    for chunk in user_chunks(offsets):
        _check_chunk(offsets[chunk.users.start : chunk.users.stop + 1], item, split, chunk, n_items)
        release(item, split)


_Codes = npt.NDArray[np.integer[Any]]


def _check_chunk(offsets: _Codes, item: _Codes, split: _Codes, chunk: UserChunk, n_items: int) -> None:
    first, items, codes = chunk.events.start, np.asarray(item[chunk.events]), np.asarray(split[chunk.events])
    if len(items) == 0:
        return
    if items.min() < 0 or items.max() >= n_items:
        row = int(np.flatnonzero((items < 0) | (items >= n_items))[0])
        raise DataError(
            f"Event {first + row} has item row {int(items[row])}, but the catalog has {n_items} items. "
            "Evaluate with the catalog of the same dataset version."
        )
    if codes.min() < Split.TRAIN or codes.max() > Split.HISTORY:
        row = int(np.flatnonzero((codes < Split.TRAIN) | (codes > Split.HISTORY))[0])
        raise DataError(
            f"Event {first + row} has split code {int(codes[row])}; known are "
            f"{', '.join(f'{code.value} ({code.label})' for code in Split)}. Rebuild the dataset."
        )
    rows = np.arange(first, chunk.events.stop)
    user = np.searchsorted(offsets, rows, side="right") - 1 + chunk.users.start
    _check_order(user, codes, rows, lambda before, after: (after != Split.TRAIN) | (before == Split.TRAIN))
    targets = np.flatnonzero((codes == Split.VALIDATION) | (codes == Split.TEST))
    _check_order(
        user[targets],
        codes[targets],
        rows[targets],
        lambda before, after: (before == Split.VALIDATION) & (after == Split.TEST),
    )


def _check_order(
    user: npt.NDArray[np.int64],
    codes: _Codes,
    rows: npt.NDArray[np.int64],
    allowed: Callable[[_Codes, _Codes], npt.NDArray[np.bool_]],
) -> None:
    """Make sure that the codes of consecutive ``rows`` of a user may follow each other."""
    before, after = codes[:-1], codes[1:]
    wrong = np.flatnonzero((user[:-1] == user[1:]) & ~allowed(before, after))
    if len(wrong):
        i = int(wrong[0])
        raise DataError(
            f"User row {int(user[i])}: event {int(rows[i])} ({Split(int(before[i])).label}) is followed by event "
            f"{int(rows[i + 1])} ({Split(int(after[i])).label}). A protocol holds out at most one validation event of a user "
            "and after it at most one test event, both after all training events. Rebuild the dataset."
        )


def training_items(sequences: Sequences) -> Jagged:
    """Item rows of the training events of every user, oldest first: all that a baseline may learn from."""
    train = np.asarray(sequences.split) == Split.TRAIN
    ends = np.concatenate([[0], np.cumsum(train)])
    return Jagged(sequences.item[train].astype(np.int32), ends[sequences.offsets])
