"""Statistics of a training split, by which recipes choose sizes."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from rf_platform.dataset import Dataset


@dataclass(frozen=True, kw_only=True)
class DatasetStatistics:
    """Sizes of a dataset's training split."""

    items: int
    """Items with a training event: what the exact softmax would run over."""
    users: int
    """Users with a training event."""
    events: int
    """Training events."""
    long_history: int
    """Training events of a user that nine in ten users do not exceed."""
    served_history: int
    """Interactions of a user that the online store keeps."""

    @classmethod
    def of(cls, dataset: "Dataset") -> "DatasetStatistics":
        """Count the training events of a dataset version."""
        counts = dataset.training_counts
        lengths = counts.of_user[counts.of_user > 0]
        return cls(
            items=int(np.count_nonzero(counts.of_item)),
            users=len(lengths),
            events=int(lengths.sum()),
            long_history=int(np.quantile(lengths, 0.9)) if len(lengths) else 0,
            served_history=dataset.spec.history_length,
        )

    @property
    def events_per_item(self) -> float:
        """Training events of the average item: how much there is to learn an item by."""
        return self.events / max(1, self.items)


TYPICAL = DatasetStatistics(items=1_700, users=940, events=98_000, long_history=240, served_history=50)
"""Those of MovieLens-100K: what a recipe is shown with where no dataset is at hand."""
