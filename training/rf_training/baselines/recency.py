"""The same list for everyone: the items most consumed lately."""

import numpy as np
import numpy.typing as npt

from rf_training.baselines.training_data import TrainingData
from rf_training.evaluation.sequences import Jagged, Split


class Recency:
    """Popularity in the recent past: every training event counts half as much for each ``half_life`` that it is older.

    Age is measured in training events rather than in hours: an event's age is the share of all training events that are
    strictly later, so that one setting fits sets of any length and busy times count as long. The score of an item is the
    sum of ``0.5 ** (age / half_life)`` over its training events.

    Limits: "now" is the end of the training split for every user, as for a recommender trained at that time; in
    leave-one-out evaluation most targets are older than that. Where a data set has positions instead of times, what comes
    late in long histories counts as recent.
    """

    name = "recency"

    def __init__(self, weights: npt.NDArray[np.float64]) -> None:
        """``weights``: ``[n_items]`` decayed training events of each item."""
        self.weights = weights
        self._scores = weights.astype(np.float32)

    @classmethod
    def fit(cls, data: TrainingData, *, half_life: float = 0.5) -> "Recency":
        """Sum the decayed training events; validation and test events are not looked at.

        The default was chosen on the validation split of MovieLens-1M: its times are real ones.

        Args:
            data: ``sequences`` and ``timestamps`` are looked at.
            half_life: Share of the training events after which an event counts half.

        Raises:
            ValueError: If ``half_life`` is not positive.
        """
        if half_life <= 0:
            raise ValueError(f"half_life={half_life} must be above 0")
        train = np.asarray(data.sequences.split) == Split.TRAIN
        items, times = data.sequences.item[train], np.asarray(data.timestamps[train])
        later = len(times) - np.searchsorted(np.sort(times), times, side="right")
        decayed = 0.5 ** (later / max(1, len(times)) / half_life)
        return cls(np.bincount(items, weights=decayed, minlength=data.n_items).astype(np.float64))

    def scores(self, users: npt.NDArray[np.int64], histories: Jagged) -> npt.NDArray[np.float32]:
        """``[B, n_items]``, a read-only view of one row."""
        return np.broadcast_to(self._scores, (len(users), len(self._scores)))
