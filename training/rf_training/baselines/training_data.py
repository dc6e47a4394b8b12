"""Training data of a baseline (events, times, features of items) and its fitted state, which is never code."""

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
from scipy import sparse

from rf_platform.dataset import Dataset
from rf_platform.features.vocabulary import UNKNOWN_ID
from rf_training.evaluation.sequences import Sequences
from rf_training.targets.event_types import EventTypes
from rf_training.targets.weights import TargetWeights

NUMERIC_BINS = 10
"""Quantile bins of a numeric feature or timestamp."""


def content_matrix(dataset: Dataset) -> sparse.csr_array:
    """Return the content matrix of the catalog: the values of each item's features that the spec gives to the model.

    Every value of a categorical or multi-valued feature is a column; a value that the training split does not know, or a
    missing one, is none. A numeric feature or timestamp has a column for each of :data:`NUMERIC_BINS` quantile bins.
    Dense vectors are left out, and so is the item's id: items never interacted with have the same kind of row as others.

    Returns:
        ``[n_items, n_values]`` of float32 ones; each item in the version that evaluation uses.
    """
    encoder, n_items = dataset.encoder, len(dataset.item_ids)
    encoded = encoder.encode(dataset.items.take(dataset.evaluation_items), dataset.spec.inputs("item"))
    blocks = [sparse.csr_array((n_items, 0), dtype=np.float32)]
    for feature in encoded.ids.values():
        rows = np.repeat(np.arange(n_items), feature.lengths)
        known = feature.values > UNKNOWN_ID
        blocks.append(_ones(rows[known], feature.values[known], n_items))
    for numbers in encoded.numbers.values():
        rows = np.flatnonzero(~np.isnan(numbers))
        blocks.append(_ones(rows, _quantile_bins(numbers[rows]), n_items))
    return sparse.csr_array(sparse.hstack(blocks, format="csr"))


def _quantile_bins(numbers: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
    if len(numbers) == 0:
        return np.zeros(0, dtype=np.int64)
    edges = np.unique(np.quantile(numbers, np.arange(1, NUMERIC_BINS) / NUMERIC_BINS))
    return np.searchsorted(edges, numbers, side="right")


def _ones(rows: npt.NDArray[np.int64], columns: npt.NDArray[np.int64], n_items: int) -> sparse.csr_array:
    """Ones at distinct places, without the columns that no item has."""
    _, dense = np.unique(columns, return_inverse=True)
    width = int(dense.max()) + 1 if len(dense) else 0
    block = sparse.csr_array((np.ones(len(rows), np.float32), (rows, dense)), shape=(n_items, width))
    block.data[:] = 1.0  # a value that an item lists twice counts once
    return block


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
    types: EventTypes | None = None
    """Types of the events, for figures by the type of the target."""
    weights: TargetWeights | None = None
    """Weights of targets, for figures in which they count as much; baselines are fitted without."""
    threads: int = 1
    """CPU threads that a fit may use."""

    @classmethod
    def from_dataset(
        cls, dataset: Dataset, *, threads: int = 1, weights: TargetWeights | None = None
    ) -> "TrainingData":
        """Collect what the baselines need of a dataset version; ``weights``: of targets, for figures by weight."""
        return cls(
            sequences=dataset.sequences,
            n_items=len(dataset.item_ids),
            timestamps=dataset.sequences.timestamp,
            content=content_matrix(dataset),
            trained=dataset.trained_items,
            types=EventTypes.of(dataset),
            weights=weights,
            threads=threads,
        )


FittedState = dict[str, Any]
"""Tensors and plain values by name, as ``torch.load(weights_only=True)`` reads them; dicts and lists of them, too."""


@runtime_checkable
class Keepable(Protocol):
    """A fitted baseline that can be kept."""

    def state(self) -> FittedState:
        """Return what was fitted."""
