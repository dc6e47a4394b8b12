"""A kind of anything is known everywhere by its one line in a table: in help, validation, choices and experiments."""

from dataclasses import replace

import pytest
from typer.testing import CliRunner

from rf_platform.cli.app import app
from rf_platform.dataset.protocols import PROTOCOLS, LeaveOneOut, protocol_from_options
from rf_platform.errors import ConfigError, NotFoundError, UsageError
from rf_training.baselines import BASELINES, SIMPLE, Popularity, baseline_names
from rf_training.baselines.table import Baseline
from rf_training.evaluation.metrics import AUC, REPORT_METRICS
from rf_training.evaluation.sampled import LABELS, METRIC_KEYS
from rf_training.experiments import GRIDS
from rf_training.model.config import ModelConfig
from rf_training.model.fusion import FUSIONS, MeanFusion, make_fusion
from rf_training.recipes import RECIPES, get_recipe, override


def shown(*command: str) -> str:
    """Return the help of a command on one line."""
    told = CliRunner().invoke(app, [*command, "--help"], env={"COLUMNS": "400"})
    assert told.exit_code == 0, told.output
    return " ".join(told.stdout.split())


def test_a_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NotFoundError):
        get_recipe("unheard-of")
    monkeypatch.setitem(RECIPES, "unheard-of", lambda data: replace(RECIPES["demo"](data), name="unheard-of"))
    assert get_recipe("unheard-of").train.epochs == 5
    assert "demo, paper, ml-1m, amazon-beauty, amazon-toys, unheard-of; or a YAML file" in shown("train")


def test_a_fusion(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"must be 'mean', 'attention', .* or 'concat'"):
        ModelConfig(fusion="unheard-of")
    monkeypatch.setitem(FUSIONS, "unheard-of", lambda size: MeanFusion(size.dim))
    assert override(get_recipe("demo"), ["model.fusion=unheard-of"]).model.fusion == "unheard-of"
    assert isinstance(make_fusion("unheard-of", 8, 2, 2, 0.0, 3), MeanFusion)
    with pytest.raises(ConfigError, match="'concat' or 'unheard-of'"):
        ModelConfig(fusion="other")


def test_the_ablation_has_all_fusions() -> None:
    assert list(GRIDS["table3"]["fusion"].variants) == list(FUSIONS)


def test_a_baseline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BASELINES, "unheard-of", Baseline(BASELINES[Popularity.name].fit, package="implicit"))
    assert list(baseline_names("all"))[-1] == "unheard-of"
    with pytest.raises(
        UsageError, match=r"must be \'popularity\', .* or \'unheard-of\'; or name your own .*; simple and all"
    ):
        baseline_names("other")
    text = shown("compare")
    assert f"'simple' ({', '.join(SIMPLE)})" in text
    assert "bert4rec, unheard-of, which need `make install-bench`" in text


def test_a_protocol(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PROTOCOLS, "unheard-of", LeaveOneOut)
    assert protocol_from_options("unheard-of", {"seed": None}) == LeaveOneOut()
    with pytest.raises(UsageError, match=r"choose from leave-one-out, .*, unheard-of"):
        protocol_from_options("other", {})
    assert "What is held out: leave-one-out, leave-one-out-cold, cold-items, temporal, unheard-of." in shown(
        "dataset", "build"
    )


def test_the_metrics_of_a_report_are_those_of_the_table() -> None:
    labels = [*(metric.label for metric in REPORT_METRICS), AUC().label]
    assert list(LABELS.values()) == labels
    assert list(METRIC_KEYS) == [label.lower() for label in labels]
