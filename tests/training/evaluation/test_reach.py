import numpy as np
import numpy.typing as npt
import pytest

from rf_training.evaluation import Jagged
from rf_training.evaluation.reach import (
    NOTHING,
    RecordedTop,
    catalog_reach,
    popularity_ranks,
    reach,
    top_unseen,
)

COUNTS = np.array([9, 5, 5, 1, 0])
BANDS = np.array([0, 1, 1, 2, 3])
HISTORIES = Jagged(np.array([3, 4, 4], np.int32), np.array([0, 1, 3]))
SCORES = np.array([[0.1, 0.2, 0.3, 0.9, 0.4], [5, 4, 3, -np.inf, 9]], np.float32)


class Fixed:
    name = "fixed"

    def scores(self, users: npt.NDArray[np.int64], histories: Jagged) -> npt.NDArray[np.float32]:
        scores = SCORES[users]
        scores.flags.writeable = False
        return scores


def test_the_best_items_outside_the_history() -> None:
    assert [sorted(row) for row in top_unseen(SCORES, HISTORIES, 2).tolist()] == [[2, 4], [0, 1]]


def test_too_few_items_leave_places_empty() -> None:
    top = top_unseen(SCORES, HISTORIES, 6)
    assert [sorted(row) for row in top.tolist()] == [[NOTHING, NOTHING, 0, 1, 2, 4], [NOTHING] * 3 + [0, 1, 2]]


def test_recording_changes_nothing() -> None:
    recorded = RecordedTop(Fixed(), 1)
    for users in (np.array([0]), np.array([1])):
        histories = Jagged(np.zeros(0, np.int32), np.array([0, 0]))
        np.testing.assert_array_equal(recorded.scores(users, histories), SCORES[users])
    assert recorded.name == "fixed"
    assert recorded.items.tolist() == [[3], [4]]


def test_ranks_of_items_that_tie_are_shared() -> None:
    assert popularity_ranks(COUNTS).tolist() == [1, 2.5, 2.5, 4, 5]


def test_reach_by_hand() -> None:
    found = reach("x", np.array([[0, 1], [0, NOTHING]]), COUNTS, BANDS)
    assert found.coverage == 2 / 5
    assert found.mean_rank == pytest.approx((1 + 2.5 + 1) / 3)
    assert found.bands == {"head": 2 / 3, "torso": 1 / 3, "tail": 0, "no training event": 0}


def test_nothing_recommended() -> None:
    found = reach("x", np.array([[NOTHING]]), COUNTS, BANDS)
    assert (found.coverage, found.mean_rank) == (0, None)


def test_scorers_stand_beside_the_catalog_and_what_people_chose() -> None:
    found = catalog_reach({"x": np.array([[0, 1], [0, 2]])}, np.array([3, 4]), "test targets", COUNTS, BANDS)
    assert [(band.name, band.size, band.events) for band in found.bands] == [
        ("head", 1, 9),
        ("torso", 2, 10),
        ("tail", 1, 1),
        ("no training event", 1, 0),
    ]
    assert [(row.scorer, row.coverage, row.mean_rank) for row in found.rows] == [
        ("x", 3 / 5, pytest.approx((1 + 2.5 + 1 + 2.5) / 4)),
        ("test targets", 2 / 5, 4.5),
    ]
