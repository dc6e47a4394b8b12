"""Composition of batches from windows (R14)."""

import numpy as np

from rf_training.loading.windows import Windows

SORTED_BATCHES = 50
"""Batches with windows sorted by length together: enough to save padding, few enough to stay random."""


def compose(
    windows: Windows, batch_size: int, rng: np.random.Generator, strata: np.ndarray | None = None
) -> list[np.ndarray]:
    """Return the windows of each batch, as row numbers; every window is in one.

    Args:
        windows: what is put together.
        batch_size: most windows in a batch.
        rng: decides.
        strata: None composes batches at random: shuffled, windows of similar length together to save padding, batches in random
            order. Strata of the windows, [windows, 3], most important first, make every batch a fair sample of them (R14), which
            mixes lengths and costs the padding; see :func:`rf_training.loading.strata.window_strata`.
    """
    if strata is not None:
        return _balanced(strata, batch_size, rng)
    order = rng.permutation(len(windows))
    pool = batch_size * SORTED_BATCHES
    batches: list[np.ndarray] = []
    for start in range(0, len(order), pool):
        part = order[start : start + pool]
        part = part[np.argsort(windows.inputs[part], kind="stable")]
        batches += [part[i : i + batch_size] for i in range(0, len(part), batch_size)]
    return [batches[i] for i in rng.permutation(len(batches))]


def _balanced(strata: np.ndarray, batch_size: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Deal all windows out to batches of at most ``batch_size``, each stratum as evenly as it goes.

    Windows are sorted by stratum, in random order within one, and cut into rounds of as many windows as there are batches;
    in every round each batch gets one of them at random. So a batch has its share of every stratum that is contiguous in that
    order (a length; a popularity within it; a category within both) to less than two windows. Sizes differ by one at most.
    """
    windows = len(strata)
    batches = -(-windows // batch_size)
    order = np.lexsort((rng.permutation(windows), *strata.T[::-1]))
    rounds = np.pad(order, (0, -windows % batches), constant_values=-1).reshape(-1, batches)
    dealt = rng.permuted(rounds, axis=1).T
    return [batch[batch >= 0] for batch in dealt]
