"""Cut training histories into windows; every training event is the target of exactly one window."""

from dataclasses import dataclass

import numpy as np

from rf_platform.dataset.dataset import TRAIN, Sequences
from rf_platform.errors import RunError


@dataclass(frozen=True)
class Windows:
    """Windows of histories, as event rows; arrays are int64 [windows]."""

    start: np.ndarray
    """First input event."""
    first_target: np.ndarray
    """First target event; the one before it, if it belongs to the user, is its latest input."""
    stop: np.ndarray
    """One past the last target event; the last input is ``stop - 2``."""

    def __len__(self) -> int:
        return len(self.start)

    @property
    def inputs(self) -> np.ndarray:
        """Number of input events of each window."""
        lengths: np.ndarray = self.stop - 1 - self.start
        return lengths


def cut_windows(sequences: Sequences, history: int, overlap: float) -> Windows:
    """Cut each user's training events into windows of at most ``history`` inputs, from the latest backwards.

    A target sees the events of its window before it. With ``overlap`` 0 a window's first target sees one event; with 0.5
    every target of a long history sees at least half a window.

    Raises:
        RunError: there are no training events.
    """
    offsets = np.asarray(sequences.offsets)
    train = np.asarray(sequences.split) == TRAIN
    counts = np.add.reduceat(np.append(train, False), offsets[:-1]) if len(offsets) > 1 else np.zeros(0, int)
    counts = np.where(np.diff(offsets) > 0, counts, 0)
    if counts.sum() == 0:
        raise RunError(
            "the training split of the dataset is empty; import interactions with at least one event per user"
        )
    begin, end = offsets[:-1], offsets[:-1] + counts  # training events come first within a user
    stride = max(1, round(history * (1 - overlap)))
    # A window that starts at the user's first event holds history + 1 targets; each earlier one adds `stride`.
    windows = np.where(counts > 0, 1 + np.ceil(np.maximum(counts - (history + 1), 0) / stride).astype(np.int64), 0)
    user = np.repeat(np.arange(len(counts)), windows)
    number = np.arange(len(user)) - np.repeat(np.cumsum(windows) - windows, windows)  # 0 = latest window of the user
    stop = end[user] - number * stride
    oldest = number == windows[user] - 1
    first_target = np.where(oldest, begin[user], stop - stride)
    start = np.maximum(begin[user], stop - 1 - history)
    return Windows(start=start, first_target=first_target, stop=stop)


def epoch_batches(
    windows: Windows, batch_size: int, seed: int, epoch: int, strata: np.ndarray | None = None
) -> list[np.ndarray]:
    """Return the windows of each step of an epoch, every window once.

    The result depends on ``seed`` and ``epoch`` alone, so a resumed run sees the same steps.

    Args:
        windows: windows of the training split.
        batch_size: most windows in a step.
        seed: of the run.
        epoch: number of the epoch.
        strata: None composes batches at random: shuffled, windows of similar length together to save padding, steps in random
            order. Strata of the windows, [windows, 3], most important first, make every batch a fair sample of them (R14), which
            mixes lengths and costs the padding; see :func:`rf_training.loading.strata.window_strata`.
    """
    rng = np.random.default_rng([seed, epoch])
    if strata is not None:
        return _balanced(strata, batch_size, rng)
    order = rng.permutation(len(windows))
    pool = batch_size * 50
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
