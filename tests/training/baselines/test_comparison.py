import numpy as np
import numpy.typing as npt
import pytest

from rf_platform.errors import DataError, RunError
from rf_training.baselines import compare_with_baselines, fit_baselines
from rf_training.evaluation import EventSequences, Jagged, Split

SEQUENCES = EventSequences.leave_one_out([[user % 5, 5 + user % 3, 8, user % 7, 9] for user in range(30)])


class Recent:
    """Recommends what was consumed last."""

    name = "recent"

    def scores(self, users: npt.NDArray[np.int64], histories: Jagged) -> npt.NDArray[np.float32]:
        scores = np.zeros((len(users), 10), dtype=np.float32)
        last = histories.last(1)
        scores[last.row_of_value, last.values] = 1
        return scores


def test_models_stand_beside_the_baselines() -> None:
    report = compare_with_baselines([Recent()], SEQUENCES, n_items=10, split=Split.VALIDATION, seed=1)
    assert [result.scorer for result in report.results if result.seen == "kept"] == ["popularity", "item-knn", "recent"]
    assert report.reference == "popularity"
    assert report.result("popularity", "kept").differences is None
    assert report.result("recent", "kept").differences is not None


def test_baselines_alone() -> None:
    report = compare_with_baselines([], SEQUENCES, n_items=10, split=Split.TEST, seed=1)
    assert len(report.results) == 4


def test_an_empty_split_fails_before_anything_is_fitted(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RunError, match="test split is empty"):
        compare_with_baselines([], EventSequences.leave_one_out([[0, 1]]), n_items=10, split=Split.TEST, seed=1)
    assert "Fitting" not in capsys.readouterr().err


def test_broken_sequences_are_not_fitted() -> None:
    with pytest.raises(DataError, match="the catalog has 9 items"):
        fit_baselines(SEQUENCES, n_items=9)
