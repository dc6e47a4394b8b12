"""One behaviour suite for all baselines, on data whose right answer is obvious to each of them."""

from typing import Protocol

import numpy as np
import numpy.typing as npt
import pytest

from rf_training.baselines import ItemKNN, Popularity
from rf_training.evaluation import EventSequences, Jagged, LeaveOneOutCases, Scorer, Sequences, Split, rank_targets
from rf_training.evaluation.sequences import training_items

N_ITEMS = 12
# Items 0 and 1 are the most popular and always consumed together; item 11 is never consumed in training.
TOGETHER = EventSequences.leave_one_out(
    [[2 + user % 8, 0, 1, 3 + user % 4, 10] for user in range(20)]
    + [[0, 1, 2 + user % 8, 3, 11] for user in range(20)]
    + [[4, 5], [6]]
)


class Baseline(Protocol):
    def fit(self, sequences: Sequences, *, n_items: int) -> Scorer: ...


@pytest.fixture(params=[Popularity, ItemKNN], ids=lambda baseline: baseline.name)
def baseline(request: pytest.FixtureRequest) -> Baseline:
    chosen: Baseline = request.param
    return chosen


def histories(*rows: list[int]) -> Jagged:
    values = [item for row in rows for item in row]
    offsets = np.cumsum([0, *(len(row) for row in rows)])
    return Jagged(np.array(values, dtype=np.int32), offsets.astype(np.int64))


def score(scorer: Scorer, *rows: list[int]) -> npt.NDArray[np.float32]:
    return scorer.scores(np.arange(len(rows)), histories(*rows))


def test_the_obvious_item_comes_first(baseline: Baseline) -> None:
    scores = score(baseline.fit(TOGETHER, n_items=N_ITEMS), [0], [1])
    assert np.argmax(np.delete(scores[0], 0)) + 1 == 1
    assert np.argmax(np.delete(scores[1], 1)) == 0


def test_scores_cover_the_catalog(baseline: Baseline) -> None:
    scores = score(baseline.fit(TOGETHER, n_items=N_ITEMS), [0], [], [11, 3])
    assert scores.shape == (3, N_ITEMS)
    assert scores.dtype == np.float32
    assert np.isfinite(scores).all()


def test_an_item_without_training_events_scores_lowest(baseline: Baseline) -> None:
    scores = score(baseline.fit(TOGETHER, n_items=N_ITEMS), [0, 1])[0]
    assert scores[11] == scores.min() == 0


def test_no_users_and_no_training_events_are_fine(baseline: Baseline) -> None:
    assert score(baseline.fit(TOGETHER, n_items=N_ITEMS)).shape == (0, N_ITEMS)
    untrained = baseline.fit(EventSequences.leave_one_out([[], [0]]), n_items=3)
    assert score(untrained, [0, 1], []).shape == (2, 3)


def test_held_out_events_are_not_learned(baseline: Baseline) -> None:
    other_targets = EventSequences(TOGETHER.offsets, TOGETHER.item.copy(), TOGETHER.split)
    held_out = TOGETHER.split != Split.TRAIN
    assert held_out.sum() == 80
    other_targets.item[held_out] = np.random.default_rng(0).integers(0, N_ITEMS, size=80)
    row = list(range(N_ITEMS))
    before = score(baseline.fit(TOGETHER, n_items=N_ITEMS), *([item] for item in row))
    after = score(baseline.fit(other_targets, n_items=N_ITEMS), *([item] for item in row))
    np.testing.assert_array_equal(before, after)
    other_targets.item[~held_out] = (other_targets.item[~held_out] + 1) % N_ITEMS  # training events do matter
    assert (score(baseline.fit(other_targets, n_items=N_ITEMS), *([item] for item in row)) != before).any()


def test_fitting_on_training_events_alone_is_the_same(baseline: Baseline) -> None:
    train = training_items(TOGETHER)
    alone = EventSequences(train.offsets, train.values, np.zeros(len(train.values), dtype=np.int8))
    np.testing.assert_array_equal(
        score(baseline.fit(TOGETHER, n_items=N_ITEMS), [0, 3], [5]),
        score(baseline.fit(alone, n_items=N_ITEMS), [0, 3], [5]),
    )


def test_inputs_are_only_read(baseline: Baseline) -> None:
    unsorted = EventSequences(TOGETHER.offsets.copy(), TOGETHER.item.copy(), TOGETHER.split.copy())
    for array in (unsorted.offsets, unsorted.item, unsorted.split):
        array.flags.writeable = False
    scorer = baseline.fit(unsorted, n_items=N_ITEMS)
    rows = histories([9, 0, 9, 3], [7, 2])
    rows.values.flags.writeable = rows.offsets.flags.writeable = False
    scorer.scores(np.arange(2), rows)
    assert rows.values.tolist() == [9, 0, 9, 3, 7, 2]
    np.testing.assert_array_equal(unsorted.item, TOGETHER.item)


def test_scores_do_not_depend_on_the_batch(baseline: Baseline) -> None:
    scorer = baseline.fit(TOGETHER, n_items=N_ITEMS)
    rows = [[0, 1], [], [3, 4, 5, 3], [9]]
    together = score(scorer, *rows)
    for index, row in enumerate(rows):
        np.testing.assert_array_equal(score(scorer, row)[0], together[index])


def test_ranks_are_the_same_again(baseline: Baseline) -> None:
    cases = LeaveOneOutCases.from_sequences(TOGETHER, n_items=N_ITEMS, split=Split.TEST)
    first = rank_targets(baseline.fit(TOGETHER, n_items=N_ITEMS), cases, seed=4)
    again = rank_targets(baseline.fit(TOGETHER, n_items=N_ITEMS), cases, seed=4)
    assert first.kept.tolist() == again.kept.tolist()
    assert first.excluded.tolist() == again.excluded.tolist()


def test_popularity_counts_training_events() -> None:
    sequences = EventSequences.leave_one_out([[0, 1, 0, 2, 2], [1, 3], [0]])
    assert Popularity.fit(sequences, n_items=5).counts.tolist() == [3, 2, 0, 1, 0]
