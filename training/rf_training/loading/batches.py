"""Batches: histories, targets and negatives of one step, each distinct item, context and profile once.

Shapes: B windows, V input interactions, Q targets, R positions read per window (padded), N distinct items, C candidates.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from rf_platform.dataset import Dataset
from rf_platform.features.encode import time_gaps
from rf_platform.features.jagged import EncodedTable
from rf_platform.features.spec import Side
from rf_training.config import Recipe
from rf_training.device import moved
from rf_training.loading.goals import GoalDraws
from rf_training.loading.order import POOL, BlockShuffle, EpochOrder, WholeShuffle, item_categories, window_strata
from rf_training.loading.tables import EncodedSides
from rf_training.loading.windows import Cut, Windows, check_training_events, ranges
from rf_training.model.inputs import FeatureTensors
from rf_training.objective import SAMPLERS
from rf_training.targets.weights import TargetWeights, check_types


@dataclass(frozen=True)
class Share:
    """Share of a process in every step."""

    rank: int = 0
    size: int = 1
    """Processes that share a step."""

    def windows(self, rows: np.ndarray) -> np.ndarray:
        """Return this process's windows of a step, similar in length to those of the others."""
        return rows[self.rank :: self.size]

    def rows(self, count: int) -> slice:
        """Return this process's part of ``count`` rows: equal parts one after the other, of which the last may be short."""
        part = -(-count // self.size)
        return slice(min(self.rank * part, count), min((self.rank + 1) * part, count))


@dataclass(frozen=True)
class Batch:
    """Everything one training step needs of a process.

    Candidates are those of the whole step, whatever the number of processes that share it; each encodes a part of them.
    """

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
    longest: int
    """The most of them: a device would have to be waited for to tell."""
    read_BR: Tensor
    """Positions read: the target is the interaction after."""
    profile_BR: Tensor
    """Row of ``sides["user"]`` at each position read."""
    real_BR: Tensor
    """bool: False where a row of ``read_BR`` is padding."""
    place_Q: Tensor
    """Indices at which ``real_BR``, read row by row, is True."""
    candidate_C: Tensor
    """Row of ``sides["item"]`` of each candidate that this process encodes: its :meth:`Share.rows` of all candidates."""
    target_Q: Tensor
    """Candidate, among those of the whole step, that is the target of each position read, in the order of ``real_BR``."""
    item_C: Tensor
    """Item of each candidate, numbered from 0 within the step: those of a target's own item are no negatives of it (accidental
    hits, R9); empty for the exact softmax."""
    log_weight_C: Tensor
    """Log of how often a candidate was drawn over how often it is drawn on average (log-Q correction, R9); empty for the
    exact softmax, which draws none."""
    unwanted_U: Tensor
    """Row of ``sides["item"]`` of each explicit negative: an item that the user had declared unwanted before the target."""
    refusing_U: Tensor
    """Target that it is a negative of, in the order of ``target_Q``; a target has one at most."""
    weight_Q: Tensor
    """Weight of each target, in the order of ``target_Q``; empty where all weigh the same."""
    goal_QG: Tensor
    """Weights over goals that each target is trained with; empty in a model without goals."""
    candidates: int
    """Candidates of the whole step."""
    weight: float
    """Share of the step's targets that are in this part: what its mean loss counts in that of the step. 0 for a window that only
    keeps a process busy for which the step has none."""

    def to(self, device: torch.device) -> "Batch":
        """Return the batch on a device, copied there as a whole; the same object where it is the CPU."""
        return moved(self, device)


@dataclass(frozen=True)
class _Candidates:
    """Candidates of a step, for the targets of a process."""

    version: np.ndarray
    """Item version of each candidate of the whole step."""
    target: np.ndarray
    item: np.ndarray
    log_weight: np.ndarray


class BatchLoader:
    """Makes the batches of a dataset's training split; the same seed and epoch give the same batches.

    Args:
        dataset: a dataset version.
        recipe: decides windows, batches and candidates.
        share: the part of every step that is made. Steps do not depend on it: windows and draws are those of the whole step.
    """

    def __init__(self, dataset: Dataset, recipe: Recipe, share: Share | None = None) -> None:
        self.recipe, self.share = recipe, share or Share()
        self.sequences, spec, encoder = dataset.sequences, dataset.spec, dataset.encoder
        counts = dataset.training_counts
        check_training_events(counts.of_user)
        self.sides = EncodedSides.of(dataset)
        self.contexts = encoder.encode(dataset.contexts, (f for f in spec.inputs("context") if f.kind == "categorical"))
        numeric = [f for f in spec.inputs("context") if f.kind == "numeric"]
        self.numeric = [(f.name, encoder.numeric[f.name]) for f in numeric]
        self.gaps = [f.name for f in spec.inputs("context") if f.kind == "timestamp"]
        self.frequency: np.ndarray = counts.of_item / counts.of_item.sum()
        self.sampler = SAMPLERS[recipe.train.sampler](counts.of_item)
        self.negatives = np.flatnonzero(self.frequency)  # items that never occur in training stay out of it altogether
        self.number_of_item = np.cumsum(self.frequency > 0) - 1  # among `negatives`
        self.version = dataset.evaluation_items  # the newest state that training knows of
        self.item_of_version = dataset.item_of_version
        self.order = self._order(counts.of_user)
        self.drawn = self._draw_rate()
        check_types(dataset, recipe.train.event_weights)
        self.weights = TargetWeights.of(dataset, recipe.train.weights(spec))
        self.goals = GoalDraws(dataset, recipe.train.goal_share, self.weights) if recipe.model.goals else None

    def _order(self, events: np.ndarray) -> EpochOrder:
        train, log = self.recipe.train, self.sequences
        stratify = None
        if train.composition == "balanced":
            category = item_categories(self.sides.items)

            def stratify(windows: Windows) -> np.ndarray:
                targets = windows.targets
                return window_strata(windows, log.item[targets], self.frequency, category[log.item_version[targets]])

        cut = Cut(history=self.recipe.model.max_history, overlap=train.overlap)
        if cut.count(events).sum() > POOL:
            return BlockShuffle(
                log, events, cut, batch_size=train.batch_size, seed=train.seed, stratify=stratify, pool=POOL
            )
        windows = cut.windows(np.asarray(log.offsets)[:-1], events)
        return WholeShuffle(windows, train.batch_size, train.seed, stratify)

    def steps(self, epoch: int) -> int:
        """Return the number of steps of an epoch; it is the same for all of them, and for all shares."""
        return self.order.steps

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch from ``first_step`` on."""
        for step, windows in enumerate(self.order.epoch(epoch, first_step), first_step):
            yield self.batch(windows, np.random.default_rng([self.recipe.train.seed, epoch, step]))

    def batch(self, windows: Windows, rng: np.random.Generator) -> Batch:
        """Make this process's part of the batch of the given windows."""
        s, train = self.sequences, self.recipe.train
        first, stop = windows.first_target, windows.stop
        if train.positions == "one":
            first = rng.integers(first, stop)
            stop = first + 1
        all_targets = ranges(first, stop)
        own = self.share.windows(np.arange(len(windows)))
        idle = len(own) == 0
        own = np.zeros(1, np.int64) if idle else own
        start, first, stop = windows.start[own], first[own], stop[own]
        inputs, targets = ranges(start, stop - 1), ranges(first, stop)
        lengths, reads = stop - 1 - start, stop - first
        input_version = np.asarray(s.item_version[inputs], np.int64)
        full = train.objective == "full"
        chosen = self._whole_catalog(targets) if full else self._sample(all_targets, targets, rng)
        encoded = chosen.version[self.share.rows(len(chosen.version))]
        refusing, unwanted = self._unwanted(all_targets, targets, rng)
        versions, row = np.unique(np.concatenate([encoded, input_version, unwanted]), return_inverse=True)
        candidates, item, unwanted = np.split(row, np.cumsum([len(encoded), len(inputs)]))
        contexts, context_row = np.unique(np.asarray(s.context[inputs]), return_inverse=True)
        profiles, profile_row = np.unique(np.asarray(s.user_version[targets]), return_inverse=True)
        real = np.arange(reads.max()) < reads[:, None]
        goals = self._goals(all_targets, targets, rng)
        return Batch(
            sides={
                "item": FeatureTensors.from_encoded(self.sides.items.take(versions)),
                "context": FeatureTensors.from_encoded(self.contexts.take(contexts)),
                "user": FeatureTensors.from_encoded(self.sides.users.take(profiles)),
            },
            numbers=FeatureTensors.from_encoded(self._numbers(inputs, lengths)),
            item_V=torch.from_numpy(item),
            context_V=torch.from_numpy(context_row),
            length_B=torch.from_numpy(lengths),
            read_BR=torch.from_numpy(_padded(targets - 1 - np.repeat(start, reads), real)),
            profile_BR=torch.from_numpy(_padded(profile_row, real)),
            longest=int(lengths.max()),
            real_BR=torch.from_numpy(real),
            place_Q=torch.from_numpy(np.flatnonzero(real)),
            candidate_C=torch.from_numpy(candidates),
            target_Q=torch.from_numpy(chosen.target),
            item_C=torch.from_numpy(chosen.item),
            log_weight_C=torch.from_numpy(chosen.log_weight),
            unwanted_U=torch.from_numpy(unwanted),
            refusing_U=torch.from_numpy(refusing),
            weight_Q=torch.from_numpy(np.zeros(0, np.float32) if self.weights is None else self.weights(targets)),
            goal_QG=torch.from_numpy(goals),
            candidates=len(chosen.version),
            weight=0.0 if idle else len(targets) / len(all_targets),
        )

    def _whole_catalog(self, targets: np.ndarray) -> "_Candidates":
        """Every item with a training event, each as training knew it last."""
        return _Candidates(
            version=self.version[self.negatives],
            target=self.number_of_item[np.asarray(self.sequences.item[targets])],
            item=np.zeros(0, np.int64),
            log_weight=np.zeros(0, np.float32),
        )

    def _sample(self, all_targets: np.ndarray, targets: np.ndarray, rng: np.random.Generator) -> "_Candidates":
        """Return the candidates of this process's ``targets``: the whole step's, as their events saw them, and draws."""
        drawn = self.sampler.draw(rng, min(self.recipe.train.uniform_negatives, len(self.negatives)))
        target_version = np.asarray(self.sequences.item_version[all_targets], np.int64)
        versions, row = np.unique(np.concatenate([target_version, self.version[drawn]]), return_inverse=True)
        item = self.item_of_version[versions]
        target = np.searchsorted(versions, np.asarray(self.sequences.item_version[targets], np.int64))
        return _Candidates(
            version=versions,
            target=target,
            item=np.unique(item, return_inverse=True)[1],
            log_weight=self._log_weights(row, item, len(all_targets), len(drawn)),
        )

    def _unwanted(
        self, all_targets: np.ndarray, targets: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return which of this process's ``targets`` have an explicit negative, and the item version of each.

        One is drawn for a target of the items that its user had not wanted by then. Items without a training event stay out of
        training as negatives, too.
        """
        aside, offsets = self.sequences.aside, self.sequences.offsets
        if aside is None or not self.recipe.train.unwanted_weight:
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        starts = np.asarray(offsets)[np.searchsorted(offsets, all_targets, side="right") - 1]
        item = aside.draw(starts, all_targets, rng)
        item[(item >= 0) & (self.frequency[item] == 0)] = -1
        order = np.argsort(all_targets)  # an event is the target of one window
        item = item[order][np.searchsorted(all_targets, targets, sorter=order)]
        refusing = np.flatnonzero(item >= 0)
        return refusing, self.version[item[refusing]]

    def _goals(self, all_targets: np.ndarray, targets: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return the weights over goals of this process's ``targets``, drawn for those of the whole step."""
        if self.goals is None:
            return np.zeros((0, 0), np.float32)
        drawn = self.goals.draw(all_targets, rng)
        order = np.argsort(all_targets)  # an event is the target of one window
        own: np.ndarray = drawn[order][np.searchsorted(all_targets, targets, sorter=order)]
        return own

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
        rate: np.ndarray = np.zeros(len(self.frequency))
        for windows in self.order.in_order():
            targets = windows.stop - windows.first_target
            np.add.at(rate, self.sequences.item[windows.targets], np.repeat(1 / targets, targets) / len(self.order))
        return rate

    def _log_weights(self, drawn: np.ndarray, candidate_item: np.ndarray, positives: int, count: int) -> np.ndarray:
        times = np.bincount(drawn, minlength=len(candidate_item))
        expected = positives * self.drawn[candidate_item] + self.sampler.expected(candidate_item, count)
        weights: np.ndarray = np.log(times / expected).astype(np.float32)
        return weights


def _padded(values: np.ndarray, real: np.ndarray) -> np.ndarray:
    """Lay values out in rows; padding repeats the row's first value."""
    rows = np.empty(real.shape, np.int64)
    rows[real] = values
    return np.where(real, rows, rows[:, :1])
