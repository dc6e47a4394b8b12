from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from rf_platform.dataset import Dataset
from rf_platform.errors import ConfigError, CorruptError, RunError, UsageError
from rf_training.baselines import (
    BASELINES,
    BESIDE_EVERY_RUN,
    SIMPLE,
    FittedBaselines,
    TrainingData,
    baseline_names,
    baselines_ahead_of,
    compare,
    sanity_check,
)
from rf_training.baselines.library import optional_library
from rf_training.evaluation import EvaluationCases, EventSequences, Jagged, Scorer, Split

IMPLICIT = pytest.mark.skipif(
    find_spec("implicit") is None, reason="als needs implicit, of the extra 'bench': run `make install-bench`"
)


class Constant:
    """Knows nothing, or the validation targets."""

    name = "model"

    def __init__(self, dataset: Dataset, *, oracle: bool) -> None:
        self.n_items = len(dataset.item_ids)
        cases = EvaluationCases.from_sequences(dataset.sequences, n_items=self.n_items, split=Split.VALIDATION)
        self.targets = dict(zip(cases.users.tolist(), cases.targets.tolist(), strict=True)) if oracle else {}

    def scores(self, users: npt.NDArray[np.int64], histories: Jagged) -> npt.NDArray[np.float32]:
        scores = np.zeros((len(users), self.n_items), np.float32)
        for row, user in enumerate(users.tolist()):
            if user in self.targets:
                scores[row, self.targets[user]] = 1
        return scores


def test_all_simple_baselines_stand_beside_the_model(dataset: Dataset, tmp_path: Path) -> None:
    report = compare(
        [Constant(dataset, oracle=False)],
        SIMPLE,
        TrainingData.from_dataset(dataset),
        split=Split.VALIDATION,
        seed=0,
        fitted=FittedBaselines(tmp_path, fingerprint=dataset.fingerprint),
    )
    assert [r.scorer for r in report.results if r.seen == "kept"] == [*SIMPLE, "model"]
    assert report.reference == "model"
    assert report.result("item-knn", "kept").differences is not None
    assert not list(tmp_path.iterdir())  # what fits in seconds is not kept


def test_baselines_alone_are_compared_with_the_first(dataset: Dataset) -> None:
    report = compare([], ["content-knn", "recency"], TrainingData.from_dataset(dataset), split=Split.TEST, seed=0)
    assert report.reference == "content-knn"
    assert report.result("content-knn", "kept").differences is None
    assert report.result("recency", "kept").differences is not None


def test_the_reference_can_be_named(dataset: Dataset) -> None:
    model = Constant(dataset, oracle=False)
    data = TrainingData.from_dataset(dataset)
    report = compare([model], BESIDE_EVERY_RUN, data, split=Split.TEST, seed=0, reference="popularity")
    assert report.reference == "popularity"
    assert [r.scorer for r in report.results if r.differences is None] == ["popularity"] * 2


def test_an_empty_split_fails_before_anything_is_fitted(dataset: Dataset, capsys: pytest.CaptureFixture[str]) -> None:
    data = replace(TrainingData.from_dataset(dataset), sequences=EventSequences.leave_one_out([[0, 1]]))
    with pytest.raises(RunError, match="test split is empty"):
        compare([], SIMPLE, data, split=Split.TEST, seed=1)
    assert "Fitting" not in capsys.readouterr().err


def test_a_model_that_knows_nothing_is_beaten(dataset: Dataset) -> None:
    ahead = baselines_ahead_of(Constant(dataset, oracle=False), dataset)
    assert {each.baseline for each in ahead} >= {"content-knn"}
    assert [each.value for each in ahead] == sorted((each.value for each in ahead), reverse=True)
    assert all(each.value > each.model for each in ahead)
    assert f"beats the model on the validation split: ndcg@20 {ahead[0].value:.4f}" in str(ahead[0])


def test_of_many_events_popularity_alone_is_looked_at(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    few = {each.baseline: each.value for each in baselines_ahead_of(Constant(dataset, oracle=False), dataset)}
    monkeypatch.setattr(sanity_check, "EVENTS", 10)
    many = {each.baseline: each.value for each in baselines_ahead_of(Constant(dataset, oracle=False), dataset)}
    assert set(many) <= {"popularity"}
    assert many.get("popularity") == few.get("popularity")


def test_of_many_cases_some_are_looked_at(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sanity_check, "CASES", 7)
    model = Constant(dataset, oracle=True)
    looked_at: list[int] = []
    scores = model.scores

    def counted(users: npt.NDArray[np.int64], histories: Jagged) -> npt.NDArray[np.float32]:
        looked_at.extend(users.tolist())
        return scores(users, histories)

    monkeypatch.setattr(model, "scores", counted)
    baselines_ahead_of(model, dataset)
    assert len(looked_at) == 7


def test_a_perfect_model_is_not_beaten(dataset: Dataset) -> None:
    assert baselines_ahead_of(Constant(dataset, oracle=True), dataset) == []


def test_names() -> None:
    assert baseline_names("all") == tuple(BASELINES)
    assert baseline_names("simple") == ("popularity", "recency", "item-knn", "content-knn")
    assert baseline_names("als, recency") == ["als", "recency"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("als,knn", "--baselines='knn' must be 'popularity', 'recency', .*; simple and all stand for several"),
        ("als,als", "'als' is listed twice; choose from popularity, recency"),
    ],
)
def test_wrong_names_are_refused(text: str, problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        baseline_names(text)


def test_a_missing_library_names_the_extra() -> None:
    with (
        pytest.raises(ConfigError, match="'als' needs the Python package 'no_such_library' of the extra 'bench'"),
        optional_library("als"),
    ):
        import no_such_library.als  # type: ignore[import-not-found]  # noqa: F401


def test_a_kept_baseline_is_weights_and_never_code(dataset: Dataset, tmp_path: Path) -> None:
    kept = FittedBaselines(tmp_path, fingerprint=dataset.fingerprint)
    ran = tmp_path / "ran"

    class Attack:
        def __reduce__(self) -> tuple[Callable[[Path], None], tuple[Path]]:
            return Path.touch, (ran,)

    torch.save(Attack(), kept.path("als"))
    with pytest.raises(CorruptError, match=r"als-.*\.pt cannot be read: .*remove the file, and it is fitted again"):
        kept.get("als", TrainingData.from_dataset(dataset))
    assert not ran.exists()


@IMPLICIT
def test_a_fitted_library_baseline_is_not_fitted_again(
    dataset: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = TrainingData.from_dataset(dataset)
    kept = FittedBaselines(tmp_path / "baselines", fingerprint=dataset.fingerprint)
    first, again = kept.get("als", data), kept.get("als", data)
    assert "als: fitted before" in capsys.readouterr().err
    assert [path.name for path in kept.directory.iterdir()] == [kept.path("als").name]
    np.testing.assert_array_equal(score(first), score(again))


def test_the_key_covers_data_settings_and_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = FittedBaselines(tmp_path, fingerprint="one").path("als")
    assert FittedBaselines(tmp_path, fingerprint="one").path("als") == path
    assert FittedBaselines(tmp_path, fingerprint="two").path("als") != path
    monkeypatch.setitem(BASELINES["als"].settings, "alpha", 2.0)
    assert FittedBaselines(tmp_path, fingerprint="one").path("als") != path
    monkeypatch.undo()
    monkeypatch.setattr("rf_training.baselines.table.library_version", lambda package: "99")
    assert FittedBaselines(tmp_path, fingerprint="one").path("als") != path


def score(scorer: Scorer) -> npt.NDArray[np.float32]:
    return scorer.scores(np.zeros(1, np.int64), Jagged(np.array([1, 2], np.int32), np.array([0, 2])))
