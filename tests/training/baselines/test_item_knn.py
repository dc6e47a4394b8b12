import numpy as np
import numpy.typing as npt
import pytest

from rf_training.baselines import ItemKNN, Popularity, item_knn
from rf_training.evaluation import EvaluationCases, EventSequences, Jagged, Split, rank_targets

N_ITEMS = 15


def random_sequences(seed: int, users: int = 80) -> EventSequences:
    rng = np.random.default_rng(seed)
    popularity = 1 / np.arange(1, N_ITEMS + 1)
    rows = [rng.choice(N_ITEMS, size=rng.integers(0, 10), p=popularity / popularity.sum()) for _ in range(users)]
    return EventSequences.leave_one_out([row.tolist() for row in rows])


def naive_similarity(sequences: EventSequences, *, neighbours: int, shrinkage: float) -> npt.NDArray[np.float64]:
    """The definition, item by item."""
    users_of: list[set[int]] = [set() for _ in range(N_ITEMS)]
    for user, (start, stop) in enumerate(zip(sequences.offsets, sequences.offsets[1:], strict=False)):
        for event in range(start, stop):
            if sequences.split[event] == Split.TRAIN:
                users_of[sequences.item[event]].add(user)
    similarity = np.zeros((N_ITEMS, N_ITEMS))
    for i, one in enumerate(users_of):
        row = {
            j: len(one & other) / (np.sqrt(len(one) * len(other)) + shrinkage)
            for j, other in enumerate(users_of)
            if j != i and one & other
        }
        for j in sorted(row, key=lambda j: (-np.float32(row[j]), j))[:neighbours]:
            similarity[i, j] = row[j]
    return similarity


def single(items: list[int]) -> Jagged:
    return Jagged(np.array(items, dtype=np.int32), np.array([0, len(items)]))


@pytest.mark.parametrize("neighbours", [1, 4, 100])
@pytest.mark.parametrize("shrinkage", [0.0, 7.5])
def test_similarities_follow_the_definition(neighbours: int, shrinkage: float) -> None:
    sequences = random_sequences(seed=neighbours)
    fitted = ItemKNN.fit(sequences, n_items=N_ITEMS, neighbours=neighbours, shrinkage=shrinkage)
    expected = naive_similarity(sequences, neighbours=neighbours, shrinkage=shrinkage)
    np.testing.assert_allclose(fitted.similarity.toarray(), expected, rtol=1e-6)


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    sequences = random_sequences(seed=0)
    whole = ItemKNN.fit(sequences, n_items=N_ITEMS, neighbours=3).similarity.toarray()
    monkeypatch.setattr(item_knn, "MAX_SIMILARITIES", 4 * N_ITEMS)
    np.testing.assert_array_equal(ItemKNN.fit(sequences, n_items=N_ITEMS, neighbours=3).similarity.toarray(), whole)


def test_a_score_is_the_sum_over_the_recent_events() -> None:
    fitted = ItemKNN.fit(random_sequences(seed=1), n_items=N_ITEMS, recent=3)
    similarity = fitted.similarity.toarray()
    scores = fitted.scores(np.array([0]), single([8, 0, 2, 1, 2]))[0]
    np.testing.assert_allclose(scores, 2 * similarity[2] + similarity[1], rtol=1e-6)


def test_shrinkage_distrusts_rare_pairs() -> None:
    # Items 0 and 1 share their only user; items 2 and 3 share 30 of 31 users each.
    users = [[0, 1, 4, 4]] + [[2, 3, 4, 4]] * 30 + [[2, 4, 4], [3, 4, 4]]
    sequences = EventSequences.leave_one_out(users)
    plain = ItemKNN.fit(sequences, n_items=5, shrinkage=0).similarity.toarray()
    shrunk = ItemKNN.fit(sequences, n_items=5, shrinkage=10).similarity.toarray()
    assert plain[0, 1] > plain[2, 3]
    assert shrunk[0, 1] < shrunk[2, 3]


def test_it_finds_partners_where_popularity_cannot() -> None:
    # Each user consumes one half of a pair, then its partner; the pairs are equally popular.
    rng = np.random.default_rng(0)
    users = []
    for user in range(200):
        pairs = rng.choice(20, size=4, replace=False)
        items = [int(item) for pair in pairs for item in rng.permutation([2 * pair, 2 * pair + 1])]
        users.append(items if user % 2 else items[:-1])  # every second target is the partner of the item before it
    sequences = EventSequences.leave_one_out(users)
    cases = EvaluationCases.from_sequences(sequences, n_items=40, split=Split.TEST)
    with_partner = cases.users % 2 == 1
    knn = ItemKNN.fit(sequences, n_items=40, recent=1)
    ranks = rank_targets(knn, cases, seed=0).excluded[with_partner]
    assert ranks.tolist() == [1] * 100
    popular = rank_targets(Popularity.fit(sequences, n_items=40), cases, seed=0).excluded[with_partner]
    assert np.mean(popular <= 5) < 0.4


@pytest.mark.parametrize("wrong", [{"neighbours": 0}, {"recent": 0}, {"shrinkage": -1.0}])
def test_senseless_settings_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(wrong))}={next(iter(wrong.values()))}"):
        ItemKNN.fit(random_sequences(seed=0), n_items=N_ITEMS, **wrong)
