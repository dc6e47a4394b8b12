from collections.abc import Callable
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from rf_platform.errors import RunError
from rf_training.evaluation import ranking
from rf_training.evaluation.cases import EvaluationCases
from rf_training.evaluation.ranking import rank_targets
from rf_training.evaluation.sequences import EventSequences, Jagged, Split


class RowScorer:
    """Scores each (user, history) by a function that returns one row."""

    name = "rows"

    def __init__(self, row: Callable[[int, list[int]], npt.ArrayLike]) -> None:
        self.row = row
        self.batches: list[int] = []

    def scores(self, users: npt.NDArray[np.int64], histories: Jagged) -> npt.NDArray[np.float32]:
        self.batches.append(len(users))
        parts = np.split(histories.values, histories.offsets[1:-1])
        rows = [self.row(int(user), part.tolist()) for user, part in zip(users, parts, strict=True)]
        return np.array(rows, dtype=np.float32)


class Recorder:
    """A progress tracker that remembers its steps."""

    def __init__(self) -> None:
        self.steps: list[float] = []

    def advance(self, steps: float = 1, note: str = "") -> None:
        self.steps.append(steps)


def cases_of(users: list[list[int]], n_items: int, split: Split = Split.TEST) -> EvaluationCases:
    return EvaluationCases.from_sequences(EventSequences.leave_one_out(users), n_items=n_items, split=split)


def random_users(count: int, n_items: int, seed: int) -> list[list[int]]:
    rng = np.random.default_rng(seed)
    return [rng.integers(0, n_items, size=rng.integers(3, 12)).tolist() for _ in range(count)]


def by_history(user: int, history: list[int]) -> npt.NDArray[np.float64]:
    """Without ties, and different for each user and history."""
    return np.random.default_rng([user, *history]).permutation(30).astype(np.float64)


def test_one_case_by_hand() -> None:
    # Target 0 scores 4; items 1, 2 and 3 score higher; 1 and 2 were seen.
    scorer = RowScorer(lambda user, history: [4, 9, 8, 7, 1])
    ranks = rank_targets(scorer, cases_of([[1, 2, 1, 0]], n_items=5), seed=0)
    assert ranks.kept.tolist() == [4]
    assert ranks.excluded.tolist() == [2]


@pytest.mark.parametrize("split", [Split.VALIDATION, Split.TEST])
def test_ranks_agree_with_sorting(split: Split) -> None:
    users = random_users(80, n_items=30, seed=1)
    cases = cases_of(users, n_items=30, split=split)
    ranks = rank_targets(RowScorer(by_history), cases, seed=0)
    held_out = 1 if split is Split.TEST else 2
    for case, user in enumerate(cases.users):
        history, target = users[user][:-held_out], users[user][-held_out]
        order = np.argsort(-by_history(int(user), history)).tolist()
        assert ranks.kept[case] == order.index(target) + 1
        unseen = [item for item in order if item == target or item not in history]
        assert ranks.excluded[case] == unseen.index(target) + 1


def test_a_target_consumed_before_stays_in_the_ranking() -> None:
    scorer = RowScorer(lambda user, history: [5, 9, 7, 1])
    ranks = rank_targets(scorer, cases_of([[0, 1, 0]], n_items=4), seed=0)
    assert ranks.kept.tolist() == [3]
    assert ranks.excluded.tolist() == [2]  # behind the unseen item 2 only


def test_a_target_consumed_before_ties_with_unseen_items() -> None:
    scorer = RowScorer(lambda user, history: [5, 9, 5, 1])
    ranks = rank_targets(scorer, cases_of([[0, 1, 0]] * 500, n_items=4), seed=0)
    assert np.bincount(ranks.excluded).tolist() == pytest.approx([0, 250, 250], abs=50)


def test_a_scorer_that_cannot_tell_items_apart_gets_uniform_ranks() -> None:
    n_users, n_items = 20_000, 10
    cases = cases_of([[1, 2, 0]] * n_users, n_items=n_items)
    ranks = rank_targets(RowScorer(lambda user, history: np.zeros(n_items)), cases, seed=3)
    for found, size in ((ranks.kept, n_items), (ranks.excluded, n_items - 2)):
        counts = np.bincount(found, minlength=size + 1)[1:]
        assert len(counts) == size
        expected = n_users / size
        assert (
            (counts - expected) ** 2 / expected
        ).sum() < 30  # chi-square, p < .001 with at most 9 degrees of freedom


def test_items_with_identical_content_share_their_places() -> None:
    # Items 0 to 3 are the same to the scorer, behind item 4 and before item 5.
    cases = cases_of([[5, 5, item] for item in range(4)] * 2_000, n_items=6)
    ranks = rank_targets(RowScorer(lambda user, history: [2, 2, 2, 2, 3, 1]), cases, seed=0).kept
    assert set(ranks.tolist()) == {2, 3, 4, 5}
    assert ranks.mean() == pytest.approx(3.5, abs=0.06)
    for item in range(4):
        assert ranks[item::4].mean() == pytest.approx(3.5, abs=0.12)


def test_seen_items_that_tie_with_the_target_leave_the_ties() -> None:
    cases = cases_of([[1, 2, 0]] * 500, n_items=4)
    ranks = rank_targets(RowScorer(lambda user, history: [2, 2, 2, 1]), cases, seed=0)
    assert set(ranks.kept.tolist()) == {1, 2, 3}
    assert set(ranks.excluded.tolist()) == {1}


def test_items_that_cannot_be_recommended_share_the_last_places() -> None:
    cases = cases_of([[1, 2, 0]] * 500, n_items=4)
    ranks = rank_targets(RowScorer(lambda user, history: [-np.inf, 1, -np.inf, 0]), cases, seed=0)
    assert set(ranks.kept.tolist()) == {3, 4}


def test_the_largest_draw_stays_within_the_ties() -> None:
    others = np.arange(5000)
    places = ranking._place(np.zeros(5000, dtype=np.int64), others, np.full(5000, np.nextafter(1, 0)))
    assert places.tolist() == (1 + others).tolist()


@pytest.mark.parametrize("chunk_users", [1, 7, 100])
def test_chunks_change_nothing(chunk_users: int) -> None:
    cases = cases_of(random_users(50, n_items=30, seed=2), n_items=30)
    scorer = RowScorer(lambda user, history: np.floor(by_history(user, history) / 5))  # many ties
    whole = rank_targets(scorer, cases, seed=5, chunk_users=50)
    parts = rank_targets(scorer, cases, seed=5, chunk_users=chunk_users)
    assert parts.kept.tolist() == whole.kept.tolist()
    assert parts.excluded.tolist() == whole.excluded.tolist()


def test_scores_held_at_once_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranking, "MAX_SCORES", 100)
    scorer = RowScorer(by_history)
    rank_targets(scorer, cases_of(random_users(10, n_items=30, seed=2), n_items=30), seed=0)
    assert scorer.batches == [3, 3, 3, 1]


def test_the_seed_decides_ties() -> None:
    cases = cases_of(random_users(50, n_items=30, seed=2), n_items=30)
    scorer = RowScorer(lambda user, history: np.zeros(30))
    first = rank_targets(scorer, cases, seed=1).kept.tolist()
    assert rank_targets(scorer, cases, seed=1).kept.tolist() == first
    assert rank_targets(scorer, cases, seed=2).kept.tolist() != first


def test_progress_counts_cases() -> None:
    recorder = Recorder()
    cases = cases_of(random_users(10, n_items=30, seed=2), n_items=30)
    rank_targets(RowScorer(by_history), cases, seed=0, chunk_users=4, progress=recorder)
    assert recorder.steps == [4, 4, 2]


COLD = [[1, 2, 0, 7], [1, 2, 7, 8], [0, 0, 1, 2]]
"""Items 7 and 8 are held out only, 3 to 6 never used: the first two test targets are cold, the second case has seen 7."""


def test_a_cold_target_is_ranked_among_cold_items() -> None:
    # Of the cold items 3 to 8, item 3 scores higher than both targets, and item 7 higher than target 8.
    scorer = RowScorer(lambda user, history: [9, 9, 9, 8, 1, 1, 1, 5, 4])
    ranks = rank_targets(scorer, cases_of(COLD, n_items=9), seed=0)
    assert ranks.kept.tolist()[:2] == [5, 6]
    assert ranks.excluded.tolist()[:2] == [2, 3]  # of the unseen ones 3, and item 3 and 0 before item 8
    assert ranks.among_cold.tolist() == [2, 2, 0]  # item 7, which the second user has seen, is out
    assert ranks.n_among_cold.tolist() == [6, 5, 0]


def test_the_candidates_are_counted() -> None:
    scorer = RowScorer(lambda user, history: np.zeros(9))
    ranks = rank_targets(scorer, cases_of([*COLD, [0, 1, 0, 0]], n_items=9), seed=0)
    assert ranks.n_kept.tolist() == [9, 9, 9, 9]
    assert ranks.n_excluded.tolist() == [6, 6, 7, 8]  # repeated items count once, a repeated target stays


def test_cold_targets_tie_with_cold_items_only() -> None:
    cases = cases_of([[0, 1, 0, 4]] * 3000, n_items=6)  # cold: 2 to 5
    ranks = rank_targets(RowScorer(lambda user, history: np.zeros(6)), cases, seed=1)
    assert np.bincount(ranks.among_cold, minlength=5)[1:].tolist() == pytest.approx([750] * 4, abs=110)


def test_ranks_among_cold_items_agree_with_sorting() -> None:
    users = [[*items, 20 + items[0] % 10] for items in random_users(60, n_items=20, seed=4)]
    cases = cases_of(users, n_items=30)
    ranks = rank_targets(RowScorer(by_history), cases, seed=0, chunk_users=7)
    trained = {item for user in users for item in user[:-2]}
    assert cases.cold.all()
    for case, user in enumerate(cases.users):
        history, target = users[user][:-1], users[user][-1]
        order = [i for i in np.argsort(-by_history(int(user), history)).tolist() if i not in trained | set(history)]
        assert ranks.among_cold[case] == order.index(target) + 1
        assert ranks.n_among_cold[case] == len(order)


def test_nan_is_refused_by_name_and_place() -> None:
    scorer = RowScorer(lambda user, history: [1, np.nan if user == 1 else 2, 3])
    with pytest.raises(RunError, match=r"'rows' returned NaN for 1 of 6 scores, first for user row 1 and item row 1"):
        rank_targets(scorer, cases_of([[0, 1, 2]] * 2, n_items=3), seed=0)


def test_another_catalog_is_refused() -> None:
    scorer = RowScorer(lambda user, history: [1, 2])
    with pytest.raises(RunError, match=r"shape \(1, 2\) for 1 users and a catalog of 3 items"):
        rank_targets(scorer, cases_of([[0, 1, 2]], n_items=3), seed=0)


def test_no_cases_are_ranked() -> None:
    none, scorer = cases_of([[0, 1, 2]], n_items=3).sampled(0, seed=0), RowScorer(by_history)
    assert len(none) == none.repeated.sum() == 0
    ranks = rank_targets(scorer, none, seed=0)
    assert all(len(each) == 0 for each in vars(ranks).values())
    assert scorer.batches == []


def test_items_that_are_not_recommendable_are_no_candidates() -> None:
    # Target 0 scores 4; 1 was seen, 2 and 3 score higher, 3 and 4 are not recommendable; 5 has no training event and ties.
    log = replace(EventSequences.leave_one_out([[1, 1, 0], [1, 1, 3]]), hidden=np.array([0, 0, 0, 1, 1, 0], bool))
    cases = EvaluationCases.from_sequences(log, n_items=6, split=Split.TEST)
    scorer = RowScorer(lambda user, history: [4, 9, 8, 7, 1, 3])
    ranks = rank_targets(scorer, cases, seed=0)
    # The second case asks for item 3, which stays in its ranking alone.
    assert ranks.kept.tolist() == [3, 3]
    assert ranks.excluded.tolist() == [2, 2]
    assert ranks.n_kept.tolist() == [4, 5]
    assert ranks.n_excluded.tolist() == [3, 4]
    # Cold are 0, 2, 3, 4 and 5.
    assert ranks.among_cold.tolist() == [2, 2]
    assert ranks.n_among_cold.tolist() == [3, 4]
    # Against the same without those items, score by score.
    rng = np.random.default_rng(1)
    users = random_users(20, 30, seed=3)
    hidden = rng.random(30) < 0.3
    plain = cases_of(users, 30)
    masked = replace(plain, hidden=hidden)
    lowered = RowScorer(lambda user, history: np.where(hidden, -np.inf, by_history(user, history)))
    wanted = rank_targets(lowered, plain, seed=5)
    found = rank_targets(RowScorer(by_history), masked, seed=5)
    shown = ~masked.hidden_target
    assert found.kept[shown].tolist() == wanted.kept[shown].tolist()
    assert found.excluded[shown].tolist() == wanted.excluded[shown].tolist()
