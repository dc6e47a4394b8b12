"""The same list for everyone: the most consumed items."""

import numpy as np
import numpy.typing as npt

from rf_training.evaluation.sequences import Jagged, Sequences, training_items


class Popularity:
    """Scores an item by its number of training events, repeated ones included; the history is not looked at."""

    name = "popularity"

    def __init__(self, counts: npt.NDArray[np.int64]) -> None:
        """Score items by ``counts``, ``[n_items]``: training events of each item."""
        self.counts = counts
        self._scores = counts.astype(np.float32)  # exact up to 2^24 events of one item

    @classmethod
    def fit(cls, sequences: Sequences, *, n_items: int) -> "Popularity":
        """Count the training events; validation and test events are not looked at."""
        return cls(np.bincount(training_items(sequences).values, minlength=n_items))

    def scores(self, users: npt.NDArray[np.int64], histories: Jagged) -> npt.NDArray[np.float32]:
        """``[B, n_items]``, a read-only view of one row of counts."""
        return np.broadcast_to(self._scores, (len(users), len(self._scores)))
