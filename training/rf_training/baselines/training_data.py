"""Training data of a baseline: the training events, their times, and what is known of the items."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from rf_platform.dataset import Dataset
from rf_training.baselines.content import content_matrix
from rf_training.evaluation.sequences import Sequences


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainingData:
    """Input of every baseline's fit."""

    sequences: Sequences
    """Events of the dataset version; a baseline looks at those of the training split only."""
    n_items: int
    """Size of the catalog."""
    timestamps: npt.NDArray[np.integer[Any]]
    """``[n_events]``: microseconds; only their order is used."""
    content: sparse.csr_array
    """``[n_items, n_values]``: which values each item has, see :func:`content_matrix`."""
    trained: npt.NDArray[np.bool_] | None = None
    """``[n_items]``: items that are not cold in the evaluation; default: those with a training event."""
    threads: int = 1
    """CPU threads that a fit may use."""

    @classmethod
    def from_dataset(cls, dataset: Dataset, *, threads: int = 1) -> "TrainingData":
        """Collect what the baselines need of a dataset version."""
        return cls(
            sequences=dataset.sequences,
            n_items=len(dataset.item_ids),
            timestamps=dataset.sequences.timestamp,
            content=content_matrix(dataset),
            trained=dataset.trained_items,
            threads=threads,
        )
