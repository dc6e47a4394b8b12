"""Log-Q weights: by hand, and what they are for: the candidates of a batch stand for the whole catalog."""

from dataclasses import replace

import numpy as np
import pytest

from rf_platform.dataset import Dataset
from rf_training.config import Recipe, TrainConfig
from rf_training.loading.batches import Batch, BatchLoader
from rf_training.loading.order import WholeShuffle
from rf_training.loading.windows import Windows
from rf_training.model.config import ModelConfig


def batch_of(loader: BatchLoader, rows: np.ndarray, rng: np.random.Generator) -> Batch:
    """Make the batch of some of all windows."""
    return loader.batch(next(loader.order.in_order()).take(rows), rng)


def make_loader(dataset: Dataset, uniform: int, batch_size: int = 32) -> BatchLoader:
    train = TrainConfig(uniform_negatives=uniform, overlap=0.0, batch_size=batch_size)
    return BatchLoader(dataset, Recipe(name="t", model=ModelConfig(max_history=4), train=train))


@pytest.fixture(scope="module")
def short(dataset: Dataset) -> Dataset:
    """The same log with two training events a user: one window of two targets each, and items that training never saw."""
    split = np.array(dataset.sequences.split)
    offsets = np.asarray(dataset.sequences.offsets)
    position = np.arange(len(split)) - np.repeat(offsets[:-1], np.diff(offsets))
    other = Dataset(path=dataset.path, manifest=dataset.manifest, spec=dataset.spec)
    other.__dict__["sequences"] = replace(dataset.sequences, split=np.where(position < 2, 0, 1).astype(np.int8))
    return other


def training_items(dataset: Dataset) -> np.ndarray:
    """Item of every training event."""
    items: np.ndarray = np.asarray(dataset.sequences.item)[np.asarray(dataset.sequences.split) == 0]
    return items


def candidates(dataset: Dataset, loader: BatchLoader, batch: Batch) -> np.ndarray:
    """Item index of every candidate, found through the id that its row carries."""
    values, lengths = batch.sides["item"].ids["item_id"]
    assert lengths.tolist() == [1] * batch.sides["item"].rows
    known = dataset.encoder.vocabularies["item_id"].values.to_numpy()
    index = np.searchsorted(dataset.item_ids, known[values.numpy() - 2])
    found: np.ndarray = index[batch.candidate_C.numpy()]
    return found


def batch_targets(dataset: Dataset, loader: BatchLoader, batch: Batch) -> list[int]:
    found = candidates(dataset, loader, batch)[batch.target_Q.numpy()]
    return [int(item) for item in found]


def test_by_hand_without_uniform_negatives(short: Dataset) -> None:
    """Three windows of two targets: a candidate was drawn as often as it is a target, and is on average 6 f times."""
    loader = make_loader(short, uniform=0)
    batch = batch_of(loader, np.array([0, 1, 2]), np.random.default_rng(0))
    log = training_items(short)
    targets = log[:6].tolist()
    items = candidates(short, loader, batch).tolist()
    assert sorted(items) == sorted(set(targets))
    by_hand = [targets.count(i) / (6 * (log == i).sum() / len(log)) for i in items]
    np.testing.assert_allclose(np.exp(batch.log_weight_C.numpy()), by_hand, rtol=1e-5)
    assert batch_targets(short, loader, batch) == targets


@pytest.mark.parametrize("uniform", [1, 7])
def test_by_hand_with_uniform_negatives(short: Dataset, uniform: int) -> None:
    """Weight times expectation is how often a candidate was drawn: whole numbers that add up to targets and draws."""
    loader = make_loader(short, uniform)
    log = training_items(short)
    catalog = np.unique(log)
    assert len(catalog) < len(short.item_ids)
    for seed in range(20):
        batch = batch_of(loader, np.array([seed, seed + 1]), np.random.default_rng(seed))
        targets = log[2 * seed : 2 * seed + 4].tolist()
        items = candidates(short, loader, batch)
        expectation = np.array([4 * (log == i).sum() / len(log) + uniform / len(catalog) for i in items])
        drawn = np.exp(batch.log_weight_C.numpy()) * expectation
        np.testing.assert_allclose(drawn, np.round(drawn), atol=1e-4)
        assert round(drawn.sum()) == 4 + uniform
        extra = np.round(drawn).astype(int) - np.array([targets.count(i) for i in items])
        assert (extra >= 0).all()
        assert extra.sum() == uniform
        assert set(items) >= set(targets)


def test_uniform_negatives_are_all_items_of_training_and_no_others(short: Dataset) -> None:
    loader = make_loader(short, uniform=9)
    catalog = set(training_items(short).tolist())
    seen = np.zeros(len(short.item_ids))
    for seed in range(300):
        batch = batch_of(loader, np.array([0]), np.random.default_rng(seed))
        items = candidates(short, loader, batch)
        assert len(items) == len(set(items.tolist()))
        seen[items] += 1
    assert set(np.flatnonzero(seen).tolist()) == catalog
    rest = sorted(catalog - set(training_items(short)[:2].tolist()))
    assert seen[rest].min() > 0.6 * seen[rest].max()  # none is preferred


def test_more_uniform_negatives_than_there_are_items(short: Dataset) -> None:
    loader = make_loader(short, uniform=10_000)
    batch = batch_of(loader, np.array([0]), np.random.default_rng(0))
    assert set(candidates(short, loader, batch).tolist()) <= set(training_items(short).tolist())
    assert np.isfinite(batch.log_weight_C.numpy()).all()


def test_every_step_draws_anew(short: Dataset) -> None:
    loader = make_loader(short, uniform=9, batch_size=1)
    drawn = [
        tuple(sorted(set(candidates(short, loader, batch).tolist()) - set(batch_targets(short, loader, batch))))
        for epoch in (0, 1)
        for batch in loader.epoch(epoch)
    ]
    assert len(drawn) == 2 * len(loader.order)
    assert len(set(drawn)) == len(drawn)


@pytest.mark.parametrize("uniform", [0, 5])
def test_on_average_the_candidates_sum_to_the_catalog(short: Dataset, uniform: int) -> None:
    """Windows and negatives drawn at random: the weighted sum of any function over the candidates is the catalog's.

    Every item's own weight is 1 on average, so the sum is right for every function.
    """
    loader = make_loader(short, uniform)
    rng = np.random.default_rng(0)
    batches = 1500
    weights = np.zeros((batches, len(short.item_ids)))
    for n in range(batches):
        batch = batch_of(loader, rng.choice(len(loader.order), 4, replace=False), rng)
        np.add.at(weights[n], candidates(short, loader, batch), np.exp(batch.log_weight_C.numpy()))
    value = np.random.default_rng(1).exponential(size=len(short.item_ids))
    catalog = np.unique(training_items(short))
    sums = weights @ value
    error = sums.std() / np.sqrt(batches)
    assert error < 0.02 * value[catalog].sum()
    assert abs(sums.mean() - value[catalog].sum()) < 3.5 * error
    item_error = weights.std(axis=0) / np.sqrt(batches)
    assert (np.abs(weights.mean(axis=0)[catalog] - 1) < 4.5 * item_error[catalog]).all()
    assert weights.sum(axis=0)[np.setdiff1d(np.arange(len(value)), catalog)].sum() == 0


def test_with_one_position_a_window_the_expectation_is_that_of_windows(short: Dataset) -> None:
    """Windows of one target and of nine: an item of short windows is drawn more often than its share of the events."""
    train = TrainConfig(uniform_negatives=0, positions="one", overlap=0.0, batch_size=4)
    loader = BatchLoader(short, Recipe(name="t", model=ModelConfig(max_history=8), train=train))
    first = np.asarray(short.sequences.offsets)[:-1]
    windows = Windows(start=first, first_target=first, stop=first + np.where(np.arange(len(first)) % 2, 9, 1))
    loader.order = WholeShuffle(windows, train.batch_size, train.seed)
    loader.drawn = loader._draw_rate()
    rng = np.random.default_rng(0)
    times = np.zeros(len(short.item_ids))
    for _ in range(400):
        batch = batch_of(loader, np.arange(len(first)), rng)
        np.add.at(times, candidates(short, loader, batch)[batch.target_Q.numpy()], 1)
    share = times / times.sum()
    assert np.abs(share - loader.drawn).max() < 0.01
    assert np.abs(share - loader.frequency).max() > 0.02
