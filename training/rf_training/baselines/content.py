"""The features of all items as one sparse matrix of ones."""

import numpy as np
import numpy.typing as npt
from scipy import sparse

from rf_platform.dataset import Dataset
from rf_platform.features.vocabulary import UNKNOWN_ID

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
