"""Batches: histories, targets and negatives of one step, each distinct item, context and profile once.

Shapes: B windows, V input interactions, Q targets, R positions read per window (padded), N distinct items, C candidates.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from rf_platform.dataset import Dataset
from rf_platform.features.encode import EncodedTable, time_gaps
from rf_platform.features.spec import Side
from rf_training.config import Recipe
from rf_training.loading.strata import item_categories, window_strata
from rf_training.loading.windows import Windows, cut_windows, epoch_batches
from rf_training.model.inputs import FeatureTensors


@dataclass(frozen=True)
class Batch:
    """Everything one training step needs."""

    sides: dict[Side, FeatureTensors]
    """Distinct items [N], contexts and profiles of the batch."""
    numbers: FeatureTensors
    """Numeric context [V] (not worth a look-up of distinct rows)."""
    item_V: Tensor
    """Row of ``sides["item"]`` of each input interaction."""
    context_V: Tensor
    """Row of ``sides["context"]`` of each input interaction."""
    length_B: Tensor
    """Inputs of each window."""
    read_BR: Tensor
    """Positions read: the target is the interaction after."""
    profile_BR: Tensor
    """Row of ``sides["user"]`` at each position read."""
    real_BR: Tensor
    """bool: False where a row of ``read_BR`` is padding."""
    candidate_C: Tensor
    """Row of ``sides["item"]`` of each candidate."""
    target_Q: Tensor
    """Candidate that is the target of each position read, in the order of ``real_BR``."""
    hit_QC: Tensor
    """bool: candidates that must not count as negatives of a target (accidental hits, R9); empty for the exact softmax."""
    log_weight_C: Tensor
    """Log of how often a candidate was drawn over how often it is drawn on average (log-Q correction, R9); empty for the
    exact softmax, which draws none."""


@dataclass(frozen=True)
class _Candidates:
    """What a step's targets are told apart from."""

    version: np.ndarray
    target: np.ndarray
    hit: np.ndarray
    log_weight: np.ndarray


class BatchLoader:
    """Makes the batches of a dataset's training split; the same seed and epoch give the same batches."""

    def __init__(self, dataset: Dataset, recipe: Recipe) -> None:
        self.recipe = recipe
        self.sequences, spec, encoder = dataset.sequences, dataset.spec, dataset.encoder
        self.windows: Windows = cut_windows(self.sequences, recipe.model.max_history, recipe.train.overlap)
        self.items = encoder.encode_items(dataset.items)
        self.users = encoder.encode(dataset.users, spec.inputs("user"))
        self.contexts = encoder.encode(dataset.contexts, (f for f in spec.inputs("context") if f.kind == "categorical"))
        numeric = [f for f in spec.inputs("context") if f.kind == "numeric"]
        self.numeric = [(f.name, encoder.numeric[f.name]) for f in numeric]
        self.gaps = [f.name for f in spec.inputs("context") if f.kind == "timestamp"]
        train = np.asarray(self.sequences.split) == 0
        items_seen = np.asarray(self.sequences.item)[train]
        self.frequency = np.bincount(items_seen, minlength=len(dataset.item_ids)) / len(items_seen)
        self.negatives = np.flatnonzero(self.frequency)  # items that never occur in training stay out of it altogether
        self.drawn = self._draw_rate()
        self.number_of_item = np.cumsum(self.frequency > 0) - 1  # among `negatives`
        self.strata = None
        if recipe.train.composition == "balanced":
            category = item_categories(self.items)[np.asarray(self.sequences.item_version)]
            self.strata = window_strata(self.windows, np.asarray(self.sequences.item), self.frequency, category)
        self.version = dataset.evaluation_items  # the newest state that training knows of
        self.item_of_version = dataset.items["item"].to_numpy()

    def steps(self, epoch: int) -> int:
        """Return the number of steps of an epoch."""
        return len(self._steps(epoch))

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch from ``first_step`` on."""
        steps = self._steps(epoch)
        for step in range(first_step, len(steps)):
            yield self.batch(steps[step], np.random.default_rng([self.recipe.train.seed, epoch, step]))

    def _steps(self, epoch: int) -> list[np.ndarray]:
        train = self.recipe.train
        return epoch_batches(self.windows, train.batch_size, train.seed, epoch, self.strata)

    def batch(self, rows: np.ndarray, rng: np.random.Generator) -> Batch:
        """Make the batch of the given windows."""
        w, s, train = self.windows, self.sequences, self.recipe.train
        start, first, stop = w.start[rows], w.first_target[rows], w.stop[rows]
        if train.positions == "one":
            first = rng.integers(first, stop)
            stop = first + 1
        inputs, targets = ranges(start, stop - 1), ranges(first, stop)
        lengths, reads = stop - 1 - start, stop - first
        input_version = np.asarray(s.item_version[inputs], np.int64)
        chosen = self._whole_catalog(targets) if train.objective == "full" else self._sample(targets, reads, rng)
        versions, row = np.unique(np.concatenate([chosen.version, input_version]), return_inverse=True)
        candidates = row[: len(chosen.version)]
        contexts, context_row = np.unique(np.asarray(s.context[inputs]), return_inverse=True)
        profiles, profile_row = np.unique(np.asarray(s.user_version[targets]), return_inverse=True)
        real = np.arange(reads.max()) < reads[:, None]
        return Batch(
            sides={
                "item": FeatureTensors.from_encoded(self.items.take(versions)),
                "context": FeatureTensors.from_encoded(self.contexts.take(contexts)),
                "user": FeatureTensors.from_encoded(self.users.take(profiles)),
            },
            numbers=FeatureTensors.from_encoded(self._numbers(inputs, lengths)),
            item_V=torch.from_numpy(row[len(candidates) :]),
            context_V=torch.from_numpy(context_row),
            length_B=torch.from_numpy(lengths),
            read_BR=torch.from_numpy(_padded(targets - 1 - np.repeat(start, reads), real)),
            profile_BR=torch.from_numpy(_padded(profile_row, real)),
            real_BR=torch.from_numpy(real),
            candidate_C=torch.from_numpy(candidates),
            target_Q=torch.from_numpy(chosen.target),
            hit_QC=torch.from_numpy(chosen.hit),
            log_weight_C=torch.from_numpy(chosen.log_weight),
        )

    def _whole_catalog(self, targets: np.ndarray) -> "_Candidates":
        """Every item with a training event, each as training knew it last."""
        return _Candidates(
            version=self.version[self.negatives],
            target=self.number_of_item[np.asarray(self.sequences.item[targets])],
            hit=np.zeros((0, 0), bool),
            log_weight=np.zeros(0, np.float32),
        )

    def _sample(self, targets: np.ndarray, reads: np.ndarray, rng: np.random.Generator) -> "_Candidates":
        """The batch's targets, each as its event saw it, and items drawn uniformly."""
        drawn = rng.choice(self.negatives, min(self.recipe.train.uniform_negatives, len(self.negatives)))
        target_version = np.asarray(self.sequences.item_version[targets], np.int64)
        versions, row = np.unique(np.concatenate([target_version, self.version[drawn]]), return_inverse=True)
        item, target = self.item_of_version[versions], row[: len(targets)]
        return _Candidates(
            version=versions,
            target=target,
            hit=self._hits(target, item, reads),
            log_weight=self._log_weights(row, item, len(targets), len(drawn)),
        )

    def _numbers(self, inputs: np.ndarray, lengths: np.ndarray) -> EncodedTable:
        encoded = EncodedTable(rows=len(inputs))
        raw = self.sequences.context_numbers[inputs]
        for j, (name, stats) in enumerate(self.numeric):
            encoded.numbers[name] = stats.standardise(raw[:, j])
        if self.gaps:
            first = np.zeros(len(inputs), bool)
            first[(np.cumsum(lengths) - lengths)[lengths > 0]] = True
            gaps = time_gaps(np.asarray(self.sequences.timestamp[inputs]), first)
            encoded.numbers.update(dict.fromkeys(self.gaps, gaps))
        return encoded

    def _draw_rate(self) -> np.ndarray:
        """Return how often an item is the average target, [items]: its share of the events, or of one a window."""
        if self.recipe.train.positions == "all":
            return self.frequency
        targets = self.windows.stop - self.windows.first_target
        events = ranges(self.windows.first_target, self.windows.stop)
        weights = np.repeat(1 / targets, targets) / len(targets)
        rate: np.ndarray = np.bincount(self.sequences.item[events], weights, minlength=len(self.frequency))
        return rate

    def _hits(self, target: np.ndarray, candidate_item: np.ndarray, reads: np.ndarray) -> np.ndarray:
        """Mark the target itself in all its versions and, if asked, the window's other positives."""
        if not self.recipe.train.mask_own_positives:
            hits: np.ndarray = candidate_item[target][:, None] == candidate_item
            return hits
        window = np.repeat(np.arange(len(reads)), reads)
        items, item = np.unique(candidate_item, return_inverse=True)  # a catalog may be too wide for a row per window
        own = np.zeros((len(reads), len(items)), bool)
        own[window, item[target]] = True
        masked: np.ndarray = own[:, item][window]
        return masked

    def _log_weights(self, drawn: np.ndarray, candidate_item: np.ndarray, positives: int, uniform: int) -> np.ndarray:
        times = np.bincount(drawn, minlength=len(candidate_item))
        expected = positives * self.drawn[candidate_item] + uniform / len(self.negatives)
        weights: np.ndarray = np.log(times / expected).astype(np.float32)
        return weights


def ranges(start: np.ndarray, stop: np.ndarray) -> np.ndarray:
    """Return ``start[0]..stop[0]-1, start[1]..stop[1]-1, ...``."""
    lengths = stop - start
    ends = np.cumsum(lengths)
    ranges: np.ndarray = np.arange(lengths.sum()) + np.repeat(start - (ends - lengths), lengths)
    return ranges


def _padded(values: np.ndarray, real: np.ndarray) -> np.ndarray:
    """Lay values out in rows; padding repeats the row's first value."""
    rows = np.empty(real.shape, np.int64)
    rows[real] = values
    return np.where(real, rows, rows[:, :1])
