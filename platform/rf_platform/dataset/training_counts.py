"""Numbers of training events of every user and every item."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rf_platform.dataset.protocols.event_log import TRAIN
from rf_platform.dataset.user_chunks import release, user_chunks


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainingCounts:
    """Training events, counted in one pass over the log that holds some users at a time."""

    of_user: npt.NDArray[np.int64]
    """``[users]``; they come first among the user's events."""
    of_item: npt.NDArray[np.int64]
    """``[items]``"""

    @classmethod
    def of(
        cls,
        offsets: npt.NDArray[np.int64],
        item: npt.NDArray[np.int32],
        split: npt.NDArray[np.int8],
        n_items: int,
    ) -> "TrainingCounts":
        """Count the training events of a log.

        Args:
            offsets: ``[users + 1]``: user ``u`` owns the events ``offsets[u]`` to ``offsets[u + 1]``.
            item: ``[events]``: item row.
            split: ``[events]``: code of the split.
            n_items: size of the catalog.
        """
        of_user, of_item = np.zeros(len(offsets) - 1, np.int64), np.zeros(n_items, np.int64)
        for chunk in user_chunks(offsets):
            train = np.asarray(split[chunk.events]) == TRAIN
            upto = np.concatenate([[0], np.cumsum(train)])
            bounds = np.asarray(offsets[chunk.users.start : chunk.users.stop + 1]) - chunk.events.start
            of_user[chunk.users] = np.diff(upto[bounds])
            of_item += np.bincount(np.asarray(item[chunk.events])[train], minlength=n_items)
            release(item, split)
        return cls(of_user=of_user, of_item=of_item)
