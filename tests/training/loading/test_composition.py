"""Balanced batches (R14)."""

import numpy as np

from rf_platform.dataset import Dataset
from rf_platform.features.jagged import EncodedTable, Jagged
from rf_training.config import Recipe, TrainConfig
from rf_training.loading.batches import BatchLoader
from rf_training.loading.order import compose, item_categories, window_strata
from rf_training.loading.windows import Windows
from rf_training.model.config import ModelConfig


def windows_of(lengths: list[int]) -> Windows:
    """Windows with one target each, one after the other in the log."""
    stop = np.cumsum(np.array(lengths) + 1)
    return Windows(start=stop - 1 - np.array(lengths), first_target=stop - 1, stop=stop)


def skewed() -> tuple[Windows, np.ndarray]:
    """1,000 windows of many lengths whose targets come from a skewed catalog of 50 items in five categories."""
    rng = np.random.default_rng(0)
    made = windows_of(rng.geometric(0.1, 1000).tolist())
    share = rng.dirichlet(np.full(50, 0.3))
    item = rng.choice(50, made.stop[-1], p=share)
    frequency = np.bincount(item, minlength=50) / len(item)
    item = item[made.targets]
    return made, window_strata(made, item, frequency, item % 5)


def counts(batches: list[np.ndarray], codes: np.ndarray) -> np.ndarray:
    """Windows of every code in every batch: [batches, codes]."""
    return np.stack([np.bincount(codes[batch], minlength=codes.max() + 1) for batch in batches])


def test_every_window_once_in_batches_of_one_size() -> None:
    made, strata = skewed()
    for batch_size in (1, 7, 32, 999, 1000, 2000):
        batches = compose(made, batch_size, np.random.default_rng([0, 0]), strata)
        assert sorted(np.concatenate(batches).tolist()) == list(range(1000))
        assert len(batches) == -(-1000 // batch_size)
        sizes = [len(batch) for batch in batches]
        assert max(sizes) <= batch_size
        assert max(sizes) - min(sizes) <= 1


def test_every_batch_has_its_share_of_lengths_popularity_and_categories() -> None:
    made, strata = skewed()
    assert set(strata[:, 0]) == set(strata[:, 1]) == {0, 1, 2, 3}
    batches = compose(made, 40, np.random.default_rng([0, 0]), strata)
    for column, slack in ((0, 2), (1, 4 * 2)):  # popularity lies within each of four bands of length
        found = counts(batches, strata[:, column])
        share = np.bincount(strata[:, column]) / len(batches)
        assert (np.abs(found - share) < slack).all()
    for column in range(3):
        balanced = counts(batches, strata[:, column]).std(0)
        plain = counts(compose(made, 40, np.random.default_rng([0, 0])), strata[:, column]).std(0)
        assert balanced.sum() < 0.75 * plain.sum()


def test_no_batch_is_of_one_length_as_random_ones_are() -> None:
    made, strata = skewed()
    spread = [np.ptp(made.inputs[batch]) for batch in compose(made, 40, np.random.default_rng([0, 0]), strata)]
    bucketed = [np.ptp(made.inputs[batch]) for batch in compose(made, 40, np.random.default_rng([0, 0]))]
    assert min(spread) > np.median(bucketed)


def test_epochs_differ_and_repeat() -> None:
    made, strata = skewed()

    def members(seed: int, epoch: int) -> list[list[int]]:
        return [batch.tolist() for batch in compose(made, 32, np.random.default_rng([seed, epoch]), strata)]

    assert members(0, 1) == members(0, 1)
    assert members(0, 0) != members(0, 1)
    assert members(0, 0) != members(1, 0)


def test_random_composition_is_what_it_was() -> None:
    """The order of a known run, so that the same seed goes on giving the same result."""
    rng = np.random.default_rng([7, 2])
    batches = compose(windows_of([3, 1, 4, 1, 5, 9, 2, 6, 5, 3]), 4, rng)
    assert [batch.tolist() for batch in batches] == [[0, 2, 4, 8], [1, 3, 6, 9], [7, 5]]


def test_strata_by_hand() -> None:
    first, stop = np.array([0, 3, 5, 7]), np.array([3, 5, 7, 8])
    made = Windows(start=np.array([0, 3, 3, 3]), first_target=first, stop=stop)
    item = np.array([0, 0, 1, 1, 1, 2, 3, 3])
    frequency = np.array([0.5, 0.3, 0.1, 0.1])
    category = np.array([4, 2, 2, 0, 3, 3, 3, 1])
    strata = window_strata(made, item[made.targets], frequency, category[made.targets])
    assert made.inputs.tolist() == [2, 1, 3, 4]
    assert strata[:, 0].tolist() == [1, 0, 2, 3]
    assert strata[:, 1].tolist() == [3, 2, 1, 1]  # mean log frequency falls; the last two are equal
    assert strata[:, 2].tolist() == [2, 0, 3, 1]  # the majority; of a tie, the first


def test_the_category_of_an_item_is_its_most_common_value_that_tells_items_apart() -> None:
    root = Jagged(np.full(6, 2), np.ones(6, np.int32))
    tags = Jagged(np.array([3, 2, 2, 3, 3, 0, 1, 4]), np.array([2, 1, 1, 1, 3, 0], np.int32))
    ids = Jagged(np.arange(2, 8), np.ones(6, np.int32))
    category = item_categories(EncodedTable(rows=6, ids={"item_id": ids, "root": root, "tags": tags}))
    # Of six, 3 is carried by three and 2 by two; row 4 holds padding, unknown and a 4; row 5 holds nothing.
    assert category[0] == category[2] == category[3]
    assert len({*category.tolist()}) == 4
    assert category[5] == 0
    assert (category[:5] > 0).all()


def test_the_loader_composes_what_the_recipe_says(dataset: Dataset) -> None:
    def loader(composition: str) -> BatchLoader:
        train = TrainConfig(batch_size=6, uniform_negatives=5, composition=composition)  # type: ignore[arg-type]
        return BatchLoader(dataset, Recipe(name="t", model=ModelConfig(max_history=4), train=train))

    balanced = loader("balanced")
    steps = list(balanced.epoch(0))
    assert len(steps) == balanced.steps(0)
    assert sum(int(batch.real_BR.sum()) for batch in steps) == int((np.asarray(dataset.sequences.split) == 0).sum())
    bucketed = {int(np.ptp(batch.length_B.numpy())) for batch in loader("random").epoch(0)}
    assert min(bucketed) == 0
    spread = {int(np.ptp(batch.length_B.numpy())) for batch in steps}
    assert min(spread) > 0


def test_items_without_any_attribute_are_all_alike() -> None:
    assert item_categories(EncodedTable(rows=3)).tolist() == [0, 0, 0]
