"""Leave-one-out cases: from a user's history, find the item held out after it."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from rf_platform.errors import RunError
from rf_training.evaluation.jagged import Jagged, gather
from rf_training.evaluation.sequences import MIN_EVENTS, Sequences, Split, check_sequences


@dataclass(frozen=True, eq=False)
class LeaveOneOutCases:
    """One case for each (user, held-out event) of a split, in order of user (row R16 of the paper map).

    The last event of a user is the test target, the one before it the validation target. The history of a case is
    everything the user did before the target: for validation the training events, for test these and the validation
    event. Arrays are per case, not per user, so a split with several targets for a user would only add cases.
    """

    split: Split
    """The split that the targets come from."""
    n_items: int
    """Size of the whole catalog, items without any event included."""
    users: npt.NDArray[np.int64]
    """``[n_cases]``: user row."""
    targets: npt.NDArray[np.int64]
    """``[n_cases]``: item row of the held-out event."""
    starts: npt.NDArray[np.int64]
    """``[n_cases]``: event row at which the history begins."""
    stops: npt.NDArray[np.int64]
    """``[n_cases]``: event row of the target, at which the history ends."""
    event_items: npt.NDArray[np.integer[Any]]
    """``[n_events]``: item row of each event of the dataset; may be memory-mapped."""

    @classmethod
    def from_sequences(cls, sequences: Sequences, *, n_items: int, split: Split) -> "LeaveOneOutCases":
        """Collect the cases of the validation or the test split.

        Raises:
            ValueError: If ``split`` is the training split, which holds nothing out.
            DataError: If the sequences break the leave-one-out order (see :func:`check_sequences`).
            RunError: If no user has an event in that split.
        """
        if split is Split.TRAIN:
            raise ValueError("the training split holds no target out: evaluate on validation or test")
        check_sequences(sequences, n_items=n_items)
        offsets = np.asarray(sequences.offsets, dtype=np.int64)
        target_rows = np.flatnonzero(np.asarray(sequences.split) == split)
        if len(target_rows) == 0:
            raise RunError(_why_empty(offsets, split))
        users = np.searchsorted(offsets, target_rows, side="right") - 1
        return cls(
            split=split,
            n_items=n_items,
            users=users,
            targets=sequences.item[target_rows].astype(np.int64),
            starts=offsets[users],
            stops=target_rows,
            event_items=sequences.item,
        )

    def __len__(self) -> int:
        return len(self.users)

    def histories(self, start: int, stop: int) -> Jagged:
        """Histories of the cases ``start`` to ``stop``, copied out of the event array."""
        return gather(self.event_items, self.starts[start:stop], self.stops[start:stop])

    def count_repeated_targets(self) -> int:
        """Number of cases whose target is also in the history."""
        histories = self.histories(0, len(self))
        repeats = histories.values == self.targets[histories.row_of_value]
        return len(np.unique(histories.row_of_value[repeats]))


def _why_empty(offsets: npt.NDArray[np.int64], split: Split) -> str:
    lengths = np.diff(offsets)
    if len(lengths) == 0:
        return (
            f"Nothing to evaluate: the dataset has no users, so its {split.label} split is empty. Import interactions."
        )
    if lengths.max() < MIN_EVENTS:
        return (
            f"Nothing to evaluate: the {split.label} split is empty because the longest of {len(lengths)} user "
            f"sequences has {lengths.max()} events, and leave-one-out needs at least {MIN_EVENTS}. "
            "Import more interactions per user."
        )
    return (
        f"Nothing to evaluate: no event is marked {split.label}, although {int((lengths >= MIN_EVENTS).sum())} of "
        f"{len(lengths)} users have at least {MIN_EVENTS} events. Rebuild the dataset with a leave-one-out split."
    )
