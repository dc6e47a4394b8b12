"""Order in which an epoch goes through the windows, and their composition into batches (R14).

All windows are shuffled or, where they are many, block by block. Both orders depend on seed and epoch alone, every window comes
once in an epoch, and any step can be gone to at once, so a resumed run sees what an uninterrupted one would have seen.

Balanced batches are fair samples of strata of windows: length, popularity and category.
"""

from collections.abc import Callable, Iterator
from typing import Protocol

import numpy as np

from rf_platform.dataset.dataset import Sequences
from rf_platform.dataset.user_chunks import prefetch, release
from rf_platform.features.jagged import EncodedTable
from rf_platform.features.spec import ITEM_ID_DOMAIN
from rf_platform.features.vocabulary import UNKNOWN_ID
from rf_training.loading.windows import Cut, Windows, ranges

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
            mixes lengths and costs the padding; see :func:`rf_training.loading.order.window_strata`.
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


POOL = 1 << 18
"""Windows that are shuffled together. Up to so many are shuffled as a whole; of more, only so many are held in memory."""
BLOCK = 1024
"""Windows, about, that lie together in the log and come into a pool together: their events are read in one go."""

Stratify = Callable[[Windows], np.ndarray]
"""From windows to their strata, [windows, 3]; see :func:`rf_training.loading.order.compose`."""


class EpochOrder(Protocol):
    """Decides which windows every step of an epoch trains on."""

    def __len__(self) -> int:
        """Return the number of windows."""

    @property
    def steps(self) -> int:
        """Steps of an epoch; the same for all epochs."""

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[Windows]:
        """Yield the windows of every step of an epoch from ``first_step`` on."""

    def in_order(self) -> Iterator[Windows]:
        """Yield all windows in the order of the log, no more than a pool at a time."""


class WholeShuffle:
    """All windows are in memory and shuffled together."""

    def __init__(self, windows: Windows, batch_size: int, seed: int, stratify: Stratify | None = None) -> None:
        self.windows, self._batch_size, self._seed = windows, batch_size, seed
        self._strata = None if stratify is None else stratify(windows)

    def __len__(self) -> int:
        return len(self.windows)

    @property
    def steps(self) -> int:
        """See :attr:`EpochOrder.steps`."""
        return -(-len(self.windows) // self._batch_size)

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[Windows]:
        """See :meth:`EpochOrder.epoch`."""
        rng = np.random.default_rng([self._seed, epoch])
        for rows in compose(self.windows, self._batch_size, rng, self._strata)[first_step:]:
            yield self.windows.take(rows)

    def in_order(self) -> Iterator[Windows]:
        """See :meth:`EpochOrder.in_order`."""
        yield self.windows


class BlockShuffle:
    """Windows are cut when they are needed: blocks of neighbouring users in random order, shuffled within pools of blocks.

    What is held per user is the number of training events; all else is of the size of a pool. Pages of the log that a pool has
    read are given back when it is done.
    """

    def __init__(
        self,
        sequences: Sequences,
        events: np.ndarray,
        cut: Cut,
        *,
        batch_size: int,
        seed: int,
        stratify: Stratify | None = None,
        pool: int,
        block: int = BLOCK,
    ) -> None:
        """``events`` are the training events of each user, [users]."""
        self._sequences, self._events, self._cut = sequences, events, cut
        self._batch_size, self._seed, self._stratify = batch_size, seed, stratify
        # Whole batches, and whole groups of those that are sorted together.
        self._pool = max(1, round(pool / (batch_size * SORTED_BATCHES))) * batch_size * SORTED_BATCHES
        reach = np.cumsum(cut.count(events))
        self._count = int(reach[-1])
        bounds = np.searchsorted(reach, np.arange(block, self._count, block)) + 1
        self._first_user = np.unique(np.concatenate([[0], bounds, [len(events)]]))
        self._windows = np.diff(reach[self._first_user[1:] - 1], prepend=0)  # of each block

    def __len__(self) -> int:
        return self._count

    @property
    def steps(self) -> int:
        """See :attr:`EpochOrder.steps`."""
        return -(-self._count // self._batch_size)

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[Windows]:
        """See :meth:`EpochOrder.epoch`."""
        order = np.random.default_rng([self._seed, epoch]).permutation(len(self._windows))
        reach = np.cumsum(self._windows[order])
        steps_of_pool = self._pool // self._batch_size
        first_pool, skipped = divmod(first_step, steps_of_pool)
        for pool in range(first_pool, -(-self._count // self._pool)):
            begin, end = pool * self._pool, min((pool + 1) * self._pool, self._count)
            first, last = np.searchsorted(reach, [begin, end - 1], side="right")
            windows = self._cut_blocks(order[first : last + 1])
            before = begin - (int(reach[first - 1]) if first else 0)
            windows = windows.take(np.arange(before, before + end - begin))
            # The last number keeps the pool's random numbers from being those of the step with its number.
            rng = np.random.default_rng([self._seed, epoch, pool, 1])
            strata = None if self._stratify is None else self._stratify(windows)
            batches = compose(windows, self._batch_size, rng, strata)
            try:
                for rows in batches[skipped:] if pool == first_pool else batches:
                    yield windows.take(rows)
            finally:
                self._release()

    def in_order(self) -> Iterator[Windows]:
        """See :meth:`EpochOrder.in_order`."""
        blocks = max(1, self._pool // BLOCK)
        for start in range(0, len(self._windows), blocks):
            yield self._cut_blocks(np.arange(start, min(start + blocks, len(self._windows))), ahead=False)
            self._release()

    def _cut_blocks(self, blocks: np.ndarray, *, ahead: bool = True) -> Windows:
        offsets = self._sequences.offsets
        users = ranges(self._first_user[blocks], self._first_user[blocks + 1])
        if ahead:
            begins, ends = offsets[self._first_user[blocks]], offsets[self._first_user[blocks + 1]]
            for begin, end in zip(begins.tolist(), ends.tolist(), strict=True):
                for array in self._read:
                    prefetch(array, slice(begin, end))
        return self._cut.windows(np.asarray(offsets[users]), self._events[users])

    @property
    def _read(self) -> tuple[np.ndarray, ...]:
        """The arrays that batches are made of."""
        log = self._sequences
        return log.item, log.item_version, log.user_version, log.context, log.context_numbers, log.timestamp

    def _release(self) -> None:
        release(*self._read)
