"""What evaluation reads of a dataset version: all events, ordered by user and time, each marked with its split."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from rf_platform.errors import DataError
from rf_training.evaluation.jagged import Jagged

MIN_EVENTS = 3
"""A user needs one training, one validation and one test event for any of them to be held out."""


class Split(IntEnum):
    """Code of an event in :attr:`Sequences.split`."""

    TRAIN = 0
    VALIDATION = 1
    TEST = 2

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
        """``[n_events]``: :class:`Split` code of each event, never falling within a user."""


@dataclass(frozen=True, eq=False)
class EventSequences:
    """Sequences in memory, for data that is not a dataset version."""

    offsets: npt.NDArray[np.int64]
    """See :attr:`Sequences.offsets`."""
    item: npt.NDArray[np.int32]
    """See :attr:`Sequences.item`."""
    split: npt.NDArray[np.int8]
    """See :attr:`Sequences.split`."""

    @classmethod
    def leave_one_out(cls, user_items: Sequence[Sequence[int]]) -> "EventSequences":
        """Hold out the last event of each user for test and the one before it for validation.

        Args:
            user_items: Item rows of each user's events, oldest first. Users with fewer than :data:`MIN_EVENTS` events
                are for training only.
        """
        lengths = np.array([len(items) for items in user_items], dtype=np.int64)
        offsets = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(lengths)])
        item = np.array([item for items in user_items for item in items], dtype=np.int32)
        split = np.full(len(item), Split.TRAIN, dtype=np.int8)
        ends = offsets[1:][lengths >= MIN_EVENTS]
        split[ends - 2] = Split.VALIDATION
        split[ends - 1] = Split.TEST
        return cls(offsets, item, split)


def check_sequences(sequences: Sequences, *, n_items: int) -> None:
    """Make sure that every event lies before the events held out after it, and names an item of the catalog.

    Raises:
        DataError: If the arrays do not fit together, an item row is outside ``[0, n_items)``, a split code is unknown,
            a user has two events in one held-out split, or a held-out event comes before one of an earlier split.
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
    if len(item) == 0:
        return
    if item.min() < 0 or item.max() >= n_items:
        row = int(np.flatnonzero((item < 0) | (item >= n_items))[0])
        raise DataError(
            f"Event {row} has item row {int(item[row])}, but the catalog has {n_items} items. "
            "Evaluate with the catalog of the same dataset version."
        )
    if split.min() < Split.TRAIN or split.max() > Split.TEST:
        row = int(np.flatnonzero((split < Split.TRAIN) | (split > Split.TEST))[0])
        raise DataError(
            f"Event {row} has split code {int(split[row])}; known are 0 (train), 1 (validation), 2 (test). "
            "Rebuild the dataset."
        )
    user_of_event = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    before, after = split[:-1], split[1:]
    misplaced = (user_of_event[:-1] == user_of_event[1:]) & (
        (after < before) | ((after == before) & (after > Split.TRAIN))
    )
    if misplaced.any():
        row = int(np.flatnonzero(misplaced)[0])
        raise DataError(
            f"User row {int(user_of_event[row])}: event {row} ({Split(int(before[row])).label}) is followed by event "
            f"{row + 1} ({Split(int(after[row])).label}). Leave-one-out holds out one validation event and after it "
            "one test event, both after all training events. Rebuild the dataset."
        )


def training_items(sequences: Sequences) -> Jagged:
    """Item rows of the training events of every user, oldest first: all that a baseline may learn from."""
    train = np.asarray(sequences.split) == Split.TRAIN
    ends = np.concatenate([[0], np.cumsum(train)])
    return Jagged(sequences.item[train].astype(np.int32), ends[sequences.offsets])
