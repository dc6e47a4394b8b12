"""`rf tune`: the search, what it goes on from, and the recipe that it leaves."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from typer.testing import Result

import rf_training.tuning.study
from rf_platform.errors import ConfigError, RunError, UsageError
from rf_platform.settings import Settings
from rf_training.config import Recipe
from rf_training.evaluation.cases import EvaluationCases
from rf_training.evaluation.sequences import Split
from rf_training.recipes import get_recipe, override
from rf_training.trainer import Trainer
from rf_training.tuning import default_space, read_space
from rf_training.tuning.space import Choices, Numbers, setting_values

SMALL = [
    "model.dim=16",
    "model.max_history=6",
    "train.epochs=2",
    "train.uniform_negatives=10",
    "train.objective=sampled",
]
SPACE = ["train.learning_rate=1e-4..5e-2", "model.layers=1,2"]
Rf = Callable[..., Result]


def tune(rf: Rf, name: str, trials: int, *options: str) -> dict[str, Any]:
    settings = [f"--set={each}" for each in SMALL]
    space = [f"--space={each}" for each in SPACE]
    done = rf("tune", "--name", name, "--trials", trials, "--json", *settings, *space, *options)
    assert done.exception is None, done.output
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.fixture(scope="module")
def tuned(rf: Rf, workspace: Settings) -> tuple[dict[str, Any], Path]:
    """Six trials, none pruned."""
    return tune(rf, "tuned", 6, "--no-prune"), workspace.workspace.root / "tunings" / "tuned"


def test_the_best_trial_becomes_a_recipe_that_train_takes(tuned: tuple[dict[str, Any], Path], rf: Rf) -> None:
    result, directory = tuned
    values = {trial["number"]: trial["value"] for trial in result["trials"]}
    assert len(values) == 6
    assert result["best"]["value"] == max(values.values())
    assert result["own"]["number"] == 1
    assert result["own"]["settings"] == {"train.learning_rate": "0.002", "model.layers": "2"}
    recipe = get_recipe(str(directory / "recipe.yaml"))
    assert recipe == override(recipe, [f"{k}={v}" for k, v in result["best"]["settings"].items()])
    assert (recipe.name, recipe.model.dim, recipe.train.epochs) == ("recipe", 16, 2)
    assert recipe.train.cold_budget == get_recipe("default").train.cold_budget
    trained = rf(
        "train", "--recipe", directory / "recipe.yaml", "--name", "best-again", "--json", "--set=train.cold_budget=0"
    )
    assert trained.exception is None, trained.output
    assert json.loads(trained.stdout)["validation"]["ndcg@20"] == result["best"]["value"]


def test_the_report_tells_what_mattered(tuned: tuple[dict[str, Any], Path]) -> None:
    result, directory = tuned
    assert set(result["importance"]) == {"train.learning_rate", "model.layers"}
    assert sum(result["importance"].values()) == pytest.approx(1)
    page = (directory / "report.md").read_text()
    assert f"Best validation ndcg@20 {result['best']['value']:.4f}" in page
    assert page.count("\n| ") == 2 + 2 + 6  # headings, a line for each setting and each trial
    assert {each.name for each in directory.iterdir()} >= {"plot.png", "plot.svg", "trials.csv", "study.db"}
    assert not list(directory.glob("trials/*/checkpoints"))


def test_more_trials_go_on_with_the_same_search(rf: Rf) -> None:
    first = tune(rf, "longer", 2)
    more = tune(rf, "longer", 3)
    assert more["trials"][:2] == first["trials"]
    assert len(more["trials"]) == 3
    assert more["trials"][2]["settings"] not in [each["settings"] for each in first["trials"]]
    again = tune(rf, "longer", 3)
    assert again["trials"] == more["trials"]


def test_another_space_under_the_same_name_is_refused(rf: Rf, tuned: tuple[dict[str, Any], Path]) -> None:
    done = rf("tune", "--name", "tuned", "--space", "model.layers=1,3", *(f"--set={each}" for each in SMALL))
    assert isinstance(done.exception, UsageError)
    assert "begun with another space; repeat the command" in str(done.exception)


def test_only_validation_is_read(rf: Rf, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Split] = []
    made = EvaluationCases.from_sequences

    def noted(*arguments: Any, split: Split, **options: Any) -> EvaluationCases:
        read.append(split)
        return made(*arguments, split=split, **options)

    monkeypatch.setattr(EvaluationCases, "from_sequences", noted)
    tune(rf, "validation-only", 2)
    assert set(read) == {Split.VALIDATION}


def test_an_interrupted_trial_goes_on_inside(rf: Rf, monkeypatch: pytest.MonkeyPatch) -> None:
    """After its first epoch, and comes to what it would have come to."""
    whole = tune(rf, "whole", 1)
    validate, epochs = Trainer._validate, []

    def interrupted(self: Trainer, *arguments: Any) -> dict[str, float]:
        metrics = validate(self, *arguments)
        epochs.append(self.position.epoch)
        if len(epochs) == 1:
            raise KeyboardInterrupt
        return metrics

    monkeypatch.setattr(Trainer, "_validate", interrupted)
    settings = [f"--set={each}" for each in SMALL] + [f"--space={each}" for each in SPACE]
    stopped = rf("tune", "--name", "halves", "--trials", 1, *settings)
    assert isinstance(stopped.exception, RunError)
    assert "after 0 of 1 trials; the same command goes on" in str(stopped.exception)
    resumed = tune(rf, "halves", 1)
    assert epochs == [1, 2]
    assert resumed["best"]["value"] == whole["best"]["value"]


def test_trials_that_fall_behind_are_pruned_and_failures_stop_nothing(rf: Rf, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of six trials the fifth loses everything and the sixth cannot be trained."""
    started: list[int] = []

    class Worse(Trainer):
        def run(self, resume: bool = False) -> Any:
            started.append(0)
            if len(started) == 6:
                raise RunError("the loss is nan")
            return super().run(resume)

        def _validate(self, *arguments: Any) -> dict[str, float]:
            metrics = super()._validate(*arguments)
            return {name: 0.0 if len(started) == 5 else value for name, value in metrics.items()}

    monkeypatch.setattr(rf_training.tuning.study, "Trainer", Worse)
    result = tune(rf, "worse", 6, "--set=train.epochs=3")
    states = [trial["state"] for trial in result["trials"]]
    assert states == ["complete"] * 4 + ["pruned", "failed"]
    assert result["trials"][4]["epochs"] == 2
    assert result["trials"][5]["reason"] == "the loss is nan"


def test_a_space_is_read_by_the_types_of_settings() -> None:
    recipe = Recipe(name="r")
    space = read_space(["model.dropout=0..0.5", "train.uniform_negatives=10..2000", "model.fusion=mean,concat"], recipe)
    assert space == {
        "model.dropout": Numbers(0, 0.5, False),
        "train.uniform_negatives": Numbers(10, 2000, True),
        "model.fusion": Choices(("mean", "concat")),
    }
    assert [space[name].log for name in ("model.dropout", "train.uniform_negatives")] == [False, True]  # type: ignore[union-attr]
    assert setting_values(space, recipe) is None  # its fusion is attention
    trial = optuna.trial.FixedTrial({"model.dropout": 0.123456, "train.uniform_negatives": 40, "model.fusion": "mean"})
    assert [axis.suggest(trial, name) for name, axis in space.items()] == ["0.1235", "40", "mean"]


def test_what_is_tuned_by_default_lies_around_the_recipe() -> None:
    sampled, full = (override(Recipe(name="r"), [f"train.objective={each}"]) for each in ("sampled", "full"))
    assert "train.uniform_negatives" in default_space(sampled)
    assert "train.label_smoothing" not in default_space(sampled)
    assert default_space(full).keys() ^ default_space(sampled).keys() == {
        "train.uniform_negatives",
        "train.label_smoothing",
    }
    assert default_space(full)["train.learning_rate"] == Numbers(5e-4, 8e-3, False)
    assert setting_values(default_space(full), full) is not None


@pytest.mark.parametrize(
    ("text", "kind", "reason"),
    [
        ("model.dim", UsageError, "there is no default range; write --space model.dim=LOW..HIGH"),
        ("model.dims=1,2", UsageError, "did you mean model.dim"),
        ("modl.dim=1,2", UsageError, "write model.NAME=VALUE"),
        ("model.dropout=0..x", UsageError, "model.dropout takes"),
        ("model.dropout=0.5..0.1", UsageError, "the first end must be below the second"),
        ("model.dropout=0..1.5", ConfigError, r"must be in \[0, 1\)"),
        ("model.layers=1,1", UsageError, "a choice is there twice"),
        ("train.seed=0,1", UsageError, "repeat the best recipe with several seeds"),
    ],
)
def test_a_space_that_cannot_be_is_refused(text: str, kind: type[Exception], reason: str) -> None:
    with pytest.raises(kind, match=reason):
        read_space([text], Recipe(name="r"))
