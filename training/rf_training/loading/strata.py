"""Strata of windows, of which balanced batches are fair samples: length, popularity and category (R14)."""

import numpy as np

from rf_platform.features.encode import EncodedTable
from rf_platform.features.spec import ITEM_ID_DOMAIN
from rf_platform.features.vocabulary import UNKNOWN_ID
from rf_training.loading.windows import Windows

BANDS = 4
"""Parts of equal size that lengths and popularity are divided into."""


def window_strata(windows: Windows, item: np.ndarray, frequency: np.ndarray, category: np.ndarray) -> np.ndarray:
    """Return the stratum of each window, int64 [windows, 3]: band of length, band of popularity, category.

    Bands are quantiles over these windows, of the number of inputs and of the mean log frequency of the targets. The category
    of a window is the one most of its targets belong to.

    Args:
        windows: windows of the training split, T targets in all.
        item: item of every target, [T], in the order of ``windows.targets``.
        frequency: share of the training events of every item.
        category: category of every target, [T], not negative; see :func:`item_categories`.
    """
    reads = windows.stop - windows.first_target
    window = np.repeat(np.arange(len(windows)), reads)
    log_frequency = np.log(frequency[item])
    popularity = np.bincount(window, log_frequency, len(windows)) / reads
    kinds = int(category.max()) + 1
    pair, times = np.unique(window * kinds + category, return_counts=True)
    # Within a window by falling count, then the first of each window.
    order = np.lexsort((-times, pair // kinds))
    first = np.searchsorted(pair[order] // kinds, np.arange(len(windows)))
    return np.stack([_band(windows.inputs), _band(popularity), pair[order][first] % kinds], axis=1)


def item_categories(items: EncodedTable) -> np.ndarray:
    """Return a category for each row of an item table, int64 [rows]: 0 for none, else its most common attribute value.

    Any value of any categorical feature but the item's id counts, except those that more than half of the rows carry: they tell
    hardly anything apart, like a root of a category tree.
    """
    category, best = np.zeros(items.rows, np.int64), np.zeros(items.rows, np.int64)
    taken = 1
    for name, bags in items.ids.items():
        if name == ITEM_ID_DOMAIN or len(bags.values) == 0:
            continue
        kinds = int(bags.values.max()) + 1
        row, value = np.divmod(np.unique(np.repeat(np.arange(items.rows), bags.lengths) * kinds + bags.values), kinds)
        carried = np.bincount(value, minlength=kinds)
        usable = (value > UNKNOWN_ID) & (2 * carried[value] <= items.rows)
        row, value = row[usable], value[usable]
        order = np.lexsort((value, -carried[value], row))
        row, first = np.unique(row[order], return_index=True)
        value = value[order][first]
        better = carried[value] > best[row]
        category[row[better]], best[row[better]] = value[better] + taken, carried[value[better]]
        taken += kinds
    return category


def _band(values: np.ndarray) -> np.ndarray:
    """Return the quantile band of each value, 0..``BANDS`` - 1; equal values are in one band."""
    cuts = np.quantile(values, np.arange(1, BANDS) / BANDS)
    bands: np.ndarray = np.searchsorted(cuts, values, side="right")
    return bands
