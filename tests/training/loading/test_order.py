"""The order of an epoch: every window once, any step at once, and few windows as ever."""

from pathlib import Path

import numpy as np
import pytest

from rf_platform.dataset import Dataset
from rf_platform.dataset.dataset import Sequences
from rf_training.config import Recipe, TrainConfig
from rf_training.loading import batches as batches_module
from rf_training.loading.batches import BatchLoader, Share
from rf_training.loading.order import BlockShuffle, WholeShuffle
from rf_training.loading.windows import Cut, Windows
from rf_training.model.config import ModelConfig

CUT = Cut(history=6, overlap=0.5)
ARRAYS = {
    "item": np.int32,
    "item_version": np.int32,
    "user_version": np.int32,
    "context": np.int32,
    "timestamp": np.int64,
}


def events_of(users: int) -> np.ndarray:
    """Training events of every user: some have none, one has more windows than a block."""
    events = np.random.default_rng(0).geometric(0.08, users) - 1
    events[users // 2] = 500
    return events


@pytest.fixture
def log(tmp_path: Path) -> Sequences:
    """2,000 users, memory-mapped; two events of each are held out."""
    events = events_of(2000)
    offsets = np.concatenate([[0], np.cumsum(events + 2)])
    split = np.concatenate([[0] * n + [1, 2] for n in events]).astype(np.int8)
    np.save(tmp_path / "offsets.npy", offsets)
    np.save(tmp_path / "split.npy", split)
    np.save(tmp_path / "context_numbers.npy", np.zeros((len(split), 1), np.float32))
    for name, dtype in ARRAYS.items():
        np.save(tmp_path / f"{name}.npy", np.arange(len(split)).astype(dtype))
    return Sequences.open(tmp_path)


def block_shuffle(
    log: Sequences, batch_size: int = 4, seed: int = 0, pool: int = 1000, block: int = 16
) -> BlockShuffle:
    return BlockShuffle(log, events_of(2000), CUT, batch_size=batch_size, seed=seed, pool=pool, block=block)


def rows(steps: list[Windows]) -> list[list[tuple[int, int, int]]]:
    return [list(zip(*(x.tolist() for x in (w.start, w.first_target, w.stop)), strict=True)) for w in steps]


def all_windows(log: Sequences) -> list[tuple[int, int, int]]:
    return rows([CUT.windows(np.asarray(log.offsets)[:-1], events_of(2000))])[0]


@pytest.mark.parametrize("batch_size", [1, 4, 7, 5000])
@pytest.mark.parametrize("pool", [50, 1000, 10**6])
def test_every_window_comes_once_in_every_epoch(log: Sequences, batch_size: int, pool: int) -> None:
    order = block_shuffle(log, batch_size, pool=pool)
    expected = sorted(all_windows(log))
    assert len(order) == len(expected)
    for epoch in (0, 1):
        steps = rows(list(order.epoch(epoch)))
        assert len(steps) == order.steps == -(-len(expected) // batch_size)
        assert sorted(w for step in steps for w in step) == expected
        assert sum(len(step) < batch_size for step in steps) <= 1


def test_epochs_and_seeds_differ_and_repeat(log: Sequences) -> None:
    def made(seed: int, epoch: int) -> list[list[tuple[int, int, int]]]:
        return rows(list(block_shuffle(log, seed=seed).epoch(epoch)))

    assert made(0, 1) == made(0, 1)
    assert made(0, 0) != made(0, 1)
    assert made(0, 0) != made(1, 0)


def test_any_step_can_be_gone_to_at_once(log: Sequences) -> None:
    order = block_shuffle(log)
    whole = rows(list(order.epoch(2)))
    assert len(whole) > 600  # several pools
    for first in (1, 49, 50, 51, 249, 250, 251, 500, len(whole) - 1, len(whole)):
        assert rows(list(order.epoch(2, first))) == whole[first:]


def test_neighbours_in_the_log_are_spread_over_the_epoch(log: Sequences) -> None:
    """The windows of a block may share a pool, but hardly ever a step; and a pool holds blocks from all over the log."""
    order = block_shuffle(log)
    of = {window: n for n, window in enumerate(sorted(all_windows(log)))}
    steps = [np.sort([of[w] for w in step]) for step in rows(list(order.epoch(0)))]
    close = np.mean([(np.diff(step) < 16).any() for step in steps])
    assert close < 0.15
    first_pool = np.concatenate(steps[:250])
    assert np.histogram(first_pool, 10, (0, len(of)))[0].min() > 20


def test_windows_of_a_step_are_alike_in_length(log: Sequences) -> None:
    order = block_shuffle(log)
    spread = np.mean([np.ptp(w.inputs) for w in order.epoch(0)])
    assert spread < 0.3 * np.ptp(CUT.windows(np.asarray(log.offsets)[:-1], events_of(2000)).inputs)


def test_all_windows_in_the_order_of_the_log(log: Sequences) -> None:
    order = block_shuffle(log, pool=200)
    parts = rows(list(order.in_order()))
    assert len(parts) > 3
    assert [w for part in parts for w in part] == all_windows(log)


def recipe(**train: object) -> Recipe:
    config = TrainConfig(**{"batch_size": 4, "uniform_negatives": 5, **train})  # type: ignore[arg-type]
    return Recipe(name="t", model=ModelConfig(max_history=4), train=config)


@pytest.fixture
def many(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> Dataset:
    """A dataset with more windows than a pool takes."""
    monkeypatch.setattr(batches_module, "POOL", 30)
    return dataset


@pytest.mark.parametrize("composition", ["random", "balanced"])
@pytest.mark.parametrize("positions", ["all", "one"])
def test_a_loader_of_many_windows_resumes_where_it_was(many: Dataset, composition: str, positions: str) -> None:
    settings = recipe(composition=composition, positions=positions)
    loader = BatchLoader(many, settings)
    assert isinstance(loader.order, BlockShuffle)
    whole = list(loader.epoch(1))
    assert len(whole) == loader.steps(1) > 10
    resumed = list(BatchLoader(many, settings).epoch(1, first_step=7))
    for a, b in zip(whole[7:], resumed, strict=True):
        assert a.item_V.tolist() == b.item_V.tolist()
        assert a.candidate_C.tolist() == b.candidate_C.tolist()
        assert a.log_weight_C.tolist() == b.log_weight_C.tolist()


def test_draw_rates_do_not_depend_on_the_order(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = BatchLoader(dataset, recipe(positions="one"))
    assert isinstance(whole.order, WholeShuffle)
    monkeypatch.setattr(batches_module, "POOL", 30)
    np.testing.assert_array_equal(BatchLoader(dataset, recipe(positions="one")).drawn, whole.drawn)


def test_ranks_share_the_steps_of_one(many: Dataset) -> None:
    """Whatever the number of processes, a step's targets, candidates and weights are those of one process."""
    alone = list(BatchLoader(many, recipe()).epoch(0))
    for size in (2, 3):
        shares = [list(BatchLoader(many, recipe(), Share(rank=r, size=size)).epoch(0)) for r in range(size)]
        assert {len(share) for share in shares} == {len(alone)}
        for step, whole in enumerate(alone):
            parts = [share[step] for share in shares]
            targets = sorted(t for p in parts if p.weight > 0 for t in p.target_Q.tolist())
            assert targets == sorted(whole.target_Q.tolist())
            assert sum(p.weight for p in parts) == pytest.approx(1)
            for part in parts:
                assert part.log_weight_C.tolist() == whole.log_weight_C.tolist()
