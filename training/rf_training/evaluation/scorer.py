"""Interface of an evaluated recommender: anything that scores the whole catalog from a history."""

from typing import Protocol

import numpy as np
import numpy.typing as npt

from rf_training.evaluation.sequences import Jagged


class Scorer(Protocol):
    """Scores every item of the catalog for a batch of users; the neural model and all baselines implement it."""

    @property
    def name(self) -> str:
        """Row label in reports; unique within one evaluation."""

    def scores(self, users: npt.NDArray[np.int64], histories: Jagged) -> npt.NDArray[np.float32]:
        """Score the catalog; a higher score means a better recommendation.

        Args:
            users: ``[B]`` user rows of the dataset, for scorers that use profiles.
            histories: The item rows of each user's events before the target, oldest first, possibly empty: a copy that
                holds nothing of the target or of later events. Row ``b`` is always the *whole* beginning of the user's
                sequence: a scorer that uses ratings or times of these events finds them at the dataset's event rows
                from ``sequences.offsets[users[b]]`` for ``histories.lengths[b]`` rows, and must read no further.

        Returns:
            ``[B, n_items]``. ``-inf`` marks items that can never be recommended; NaN is an error. The array is only
            read, so a read-only view will do. Equal scores are ranked in random order.
        """
