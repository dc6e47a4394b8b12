import numpy as np
import pytest
from scipy import sparse

from rf_training.baselines import Recency, TrainingData
from rf_training.evaluation import EventSequences, Jagged

NO_HISTORY = Jagged(np.zeros(0, np.int32), np.zeros(2, np.int64))


def data(times: list[int]) -> TrainingData:
    """Training events of items 0, 1, 2 by one user each, and of item 3 a held-out event only."""
    sequences = EventSequences(
        np.array([0, 1, 2, 4]), np.array([0, 1, 2, 3], np.int32), np.array([0, 0, 0, 2], np.int8)
    )
    return TrainingData(
        sequences=sequences, n_items=5, timestamps=np.array([*times, 99]), content=sparse.csr_array((5, 0))
    )


def test_events_count_half_for_each_half_life_of_later_training_events() -> None:
    # Of three training events, two are later than item 1's and one is later than item 0's.
    weights = Recency.fit(data([20, 10, 30]), half_life=1 / 3).weights
    np.testing.assert_allclose(weights, [1 / 2, 1 / 4, 1, 0, 0])


def test_events_of_the_same_time_count_the_same() -> None:
    weights = Recency.fit(data([10, 10, 30]), half_life=1 / 3).weights
    np.testing.assert_allclose(weights, [1 / 2, 1 / 2, 1, 0, 0])


def test_the_newer_of_two_equally_popular_items_comes_first() -> None:
    scores = Recency.fit(data([30, 20, 10])).scores(np.zeros(1, np.int64), NO_HISTORY)[0]
    assert scores[0] > scores[1] > scores[2] > scores[3] == 0


@pytest.mark.parametrize("half_life", [0.0, -1.0])
def test_a_senseless_half_life_is_refused(half_life: float) -> None:
    with pytest.raises(ValueError, match=f"half_life={half_life} must be above 0"):
        Recency.fit(data([1, 2, 3]), half_life=half_life)
