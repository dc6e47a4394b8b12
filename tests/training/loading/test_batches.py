"""What a batch holds."""

from typing import Any

import numpy as np
import pytest
import torch

from rf_platform.dataset import Dataset
from rf_training import loss
from rf_training.config import Recipe, TrainConfig
from rf_training.loading.batches import Batch, BatchLoader
from rf_training.model.config import ModelConfig


def loader(dataset: Dataset, **train: object) -> BatchLoader:
    config = TrainConfig(**{"batch_size": 6, "uniform_negatives": 5, "overlap": 0.0, **train})  # type: ignore[arg-type]
    return BatchLoader(dataset, Recipe(name="t", model=ModelConfig(max_history=4), train=config))


@pytest.fixture
def batch(dataset: Dataset) -> Batch:
    return next(iter(loader(dataset).epoch(0)))


def test_each_distinct_item_context_and_profile_is_there_once(dataset: Dataset, batch: Batch) -> None:
    ids = batch.sides["item"].ids["item_id"][0].numpy()
    assert len(ids) == len(np.unique(ids)) == batch.sides["item"].rows
    assert len(np.unique(batch.context_V.numpy())) == batch.sides["context"].rows
    assert len(np.unique(batch.profile_BR.numpy())) == batch.sides["user"].rows


def test_shapes_belong_together(batch: Batch) -> None:
    targets = int(batch.real_BR.sum())
    assert len(batch.target_Q) == targets == len(batch.place_Q)
    assert batch.real_BR.flatten()[batch.place_Q].all()
    assert len(batch.candidate_C) == len(batch.item_C) == len(batch.log_weight_C)
    assert batch.longest == int(batch.length_B.max())
    assert len(batch.item_V) == len(batch.context_V) == int(batch.length_B.sum()) == batch.numbers.rows
    assert int(batch.length_B.max()) <= 4
    assert (batch.read_BR < batch.length_B[:, None]).all()


def test_a_target_follows_the_position_it_is_read_at(dataset: Dataset) -> None:
    """Rebuild every (history, target) pair from the batch and look it up in the log."""
    made = loader(dataset)
    rows = np.arange(6)
    windows = next(made.order.in_order())
    batch = made.batch(windows.take(rows), np.random.default_rng(0))
    versions = dataset.items["item_id"].to_numpy()
    by_vocabulary = batch.sides["item"].ids["item_id"][0].numpy()
    vocabulary = dataset.encoder.vocabularies["item_id"].values.to_numpy()
    item_of_row = np.where(by_vocabulary >= 2, vocabulary[np.maximum(by_vocabulary - 2, 0)], -1)
    log = versions[np.asarray(dataset.sequences.item_version)]
    q = v = 0
    for b, row in enumerate(rows):
        n = int(batch.length_B[b])
        start, first, stop = (int(x[row]) for x in (windows.start, windows.first_target, windows.stop))
        inputs = item_of_row[batch.item_V[v : v + n].numpy()]
        assert inputs.tolist() == log[start : stop - 1].tolist()
        reads = batch.read_BR[b][batch.real_BR[b]].tolist()
        targets = item_of_row[batch.candidate_C[batch.target_Q[q : q + len(reads)]].numpy()].tolist()
        assert targets == [log[start + r + 1] for r in reads] == log[first:stop].tolist()
        v, q = v + n, q + len(reads)


def test_held_out_events_never_reach_a_batch(dataset: Dataset) -> None:
    """The loader is given a dataset whose held-out rows are poisoned."""
    from dataclasses import replace

    sequences = dataset.sequences
    held_out = np.asarray(sequences.split) > 0
    poisoned: dict[str, Any] = {
        name: np.where(held_out, 10**6, np.asarray(getattr(sequences, name))).astype(np.int64)
        for name in ("item", "item_version", "user_version", "context")
    }
    clean = loader(dataset)
    other = Dataset(path=dataset.path, manifest=dataset.manifest, spec=dataset.spec)
    other.__dict__["sequences"] = replace(sequences, **poisoned)
    for a, b in zip(clean.epoch(0), loader(other).epoch(0), strict=True):
        assert a.item_V.tolist() == b.item_V.tolist()
        assert a.log_weight_C.tolist() == b.log_weight_C.tolist()


def test_negatives_come_from_training_only(dataset: Dataset) -> None:
    made = loader(dataset)
    train = np.asarray(dataset.sequences.item)[np.asarray(dataset.sequences.split) == 0]
    assert set(made.negatives) == set(train)


def test_accidental_hits_are_marked(dataset: Dataset) -> None:
    for own in (False, True):
        batch = next(iter(loader(dataset, mask_own_positives=own).epoch(0)))
        target = batch.target_Q.numpy()
        window = np.repeat(np.arange(len(batch.real_BR)), batch.real_BR.sum(1).numpy())
        marked = loss.hits(batch.item_C, batch.target_Q, torch.from_numpy(window) if own else None, len(batch.real_BR))
        hits = marked.numpy()
        assert hits[np.arange(len(target)), target].all()
        for q in range(len(target)):
            others = set(target[window == window[q]]) if own else {target[q]}
            assert set(np.flatnonzero(hits[q])) == others


def test_same_seed_same_batches(dataset: Dataset) -> None:
    a, b = (list(loader(dataset).epoch(3)) for _ in range(2))
    assert all(x.item_V.tolist() == y.item_V.tolist() for x, y in zip(a, b, strict=True))
    resumed = list(loader(dataset).epoch(3, first_step=1))
    assert [x.candidate_C.tolist() for x in resumed] == [x.candidate_C.tolist() for x in a[1:]]
