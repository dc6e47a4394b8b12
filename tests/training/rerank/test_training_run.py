"""A re-ranker in its run: complete or not there at all, chosen or not, and nothing else of the run touched."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from rf_platform.cli.app import app
from rf_platform.errors import CorruptError, NotFoundError, RunError, UsageError
from rf_platform.settings import Settings, get_settings
from rf_training.recipes import override
from rf_training.rerank.config import RerankConfig
from rf_training.rerank.recipe import RerankRecipe, RerankTraining
from rf_training.rerank.store import (
    choose_reranker,
    chosen_reranker,
    open_reranker,
    publish_reranker,
    reranker_names,
)
from rf_training.rerank.training_run import RerankResult, train_rerankers

RECIPE = RerankRecipe(
    rerank=RerankConfig(links=4, width=8, hidden=8),
    train=RerankTraining(places=2, hard=4, uniform=4, epochs=1, batch_size=32),
)


def train_reranker(
    settings: Settings, run: str, recipe: RerankRecipe, name: str | None = None, replace: bool = False
) -> RerankResult:
    (result,) = train_rerankers(settings, run, {name or recipe.rerank.kind: recipe}, replace=replace)
    return result


def contents(directory: Path) -> dict[str, str]:
    return {
        str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in directory.rglob("*")
        if path.is_file() and path.suffix != ".lock"
    }


def test_a_run_gets_a_reranker_and_stays_as_it_was(trained: Settings, run: Path) -> None:
    before = contents(run)
    assert chosen_reranker(run) is None
    result = train_reranker(trained, "r", RECIPE)
    assert result.name == "lime-mha"
    assert reranker_names(run) == ["lime-mha"]
    assert chosen_reranker(run) == (run / "rerankers" / "lime-mha").resolve()
    after = contents(run)
    assert {k: v for k, v in after.items() if not k.startswith("rerank")} == before
    facts = json.loads((run / "reranker" / "training.json").read_text())
    assert facts["run"] == "r"
    assert facts["places"] == 48
    assert 0 < facts["examples"] <= 48
    assert facts["recipe"]["rerank"]["links"] == 4
    metrics = json.loads((run / "reranker" / "metrics.json").read_text())
    assert metrics["validation"]["ndcg@10"] == result.validation["ndcg@10"]
    assert [each["epoch"] for each in metrics["history"]] == [0, 1]


def test_the_same_command_gives_the_same_weights(trained: Settings, run: Path) -> None:
    train_reranker(trained, "r", RECIPE)
    train_reranker(trained, "r", RECIPE, "again")
    one, other = (open_reranker(run, name).state_dict() for name in ("lime-mha", "again"))
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_an_interrupted_training_leaves_no_reranker(
    trained: Settings, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    before = contents(run)
    with monkeypatch.context() as patch:
        patch.setattr("rf_training.rerank.training_run.write_facts", interrupted)
        with pytest.raises(RunError, match="interrupted; nothing is kept of lime-mha: start again"):
            train_reranker(trained, "r", RECIPE)
    assert contents(run) == before
    assert not (run / "rerankers").exists()
    assert chosen_reranker(run) is None


def test_what_a_killed_training_left_is_no_reranker_and_is_removed(run: Path) -> None:
    left = run / "rerankers" / ".training-left"
    left.mkdir(parents=True)
    (left / "config.json").write_text("{}")
    assert reranker_names(run) == []
    with publish_reranker(run, "a") as directory:
        (directory / "config.json").write_text('{"kind": "dot"}')
        with publish_reranker(run, "b") as other:  # at work at the same time: not swept
            (other / "config.json").write_text('{"kind": "dot"}')
    assert not left.exists()
    assert reranker_names(run) == ["a", "b"]


def test_a_failed_replacement_keeps_the_reranker_that_was_there(run: Path) -> None:
    for text in ("one", "two"):
        with publish_reranker(run, "a") as directory:
            (directory / "config.json").write_text(text)
    assert (run / "rerankers" / "a" / "config.json").read_text() == "two"
    with pytest.raises(ValueError, match="broken"), publish_reranker(run, "a") as directory:
        raise ValueError("broken")
    assert (run / "rerankers" / "a" / "config.json").read_text() == "two"
    assert len(list((run / "rerankers").iterdir())) == 1


def test_a_name_that_is_taken_is_refused_unless_it_is_replaced(trained: Settings, run: Path) -> None:
    train_reranker(trained, "r", RECIPE)
    with pytest.raises(UsageError, match="has a re-ranker 'lime-mha' already; --replace"):
        train_reranker(trained, "r", RECIPE)
    train_reranker(trained, "r", override(RECIPE, ["rerank.links=2"]), replace=True)
    assert open_reranker(run, "lime-mha").config.links == 2
    with pytest.raises(UsageError, match="cannot be the name of a re-ranker"):
        train_reranker(trained, "r", RECIPE, "../best")


def test_only_what_can_be_served_is_chosen(trained: Settings, run: Path) -> None:
    train_reranker(trained, "r", override(RECIPE, ["rerank.kind=target-attention"]))
    assert chosen_reranker(run) is None
    with pytest.raises(UsageError, match="of the kind target-attention"):
        choose_reranker(run, "target-attention")
    with pytest.raises(NotFoundError, match="it has target-attention"):
        choose_reranker(run, "lime-xor")
    (run / "reranker").symlink_to(Path("rerankers", "gone"))
    with pytest.raises(CorruptError, match="leads to no re-ranker"):
        chosen_reranker(run)


def test_a_reranker_of_other_towers_is_refused(trained: Settings, run: Path) -> None:
    train_reranker(trained, "r", RECIPE)
    facts = run / "rerankers" / "lime-mha" / "training.json"
    facts.write_text(facts.read_text().replace('"towers_sha256": "', '"towers_sha256": "0'))
    with pytest.raises(CorruptError, match="trained on other weights"):
        open_reranker(run, "lime-mha")


@pytest.fixture
def rf(trained: Settings, monkeypatch: pytest.MonkeyPatch) -> CliRunner:
    monkeypatch.setenv("RF_HOME", str(trained.home))
    monkeypatch.setenv("RF_THREADS", "1")
    get_settings.cache_clear()
    return CliRunner()


def test_the_command(rf: CliRunner, run: Path) -> None:
    small = ["--set", "rerank.links=4", "--set", "train.epochs=1", "--set", "train.hard=4", "--set", "train.places=1"]
    told = rf.invoke(app, ["rerank", "train", "--run", "r", "--kind", "lime-xor", *small])
    assert told.exit_code == 0, told.output
    assert "re-ranker lime-xor of run r: best pass" in told.stdout
    assert "the next `rf index build` serves it" in told.stdout
    told = rf.invoke(app, ["rerank", "train", "--run", "r", "--keep", "--json", *small])
    assert json.loads(told.stdout)["chosen"] is None
    assert chosen_reranker(run) == (run / "rerankers" / "lime-xor").resolve()
    assert rf.invoke(app, ["rerank", "use", "lime-mha", "--run", "r"]).exit_code == 0
    assert chosen_reranker(run) == (run / "rerankers" / "lime-mha").resolve()


def test_several_kinds_at_once_are_those_of_one_at_a_time_and_the_best_is_chosen(trained: Settings, run: Path) -> None:
    kinds = ("truncated", "lime-xor", "lime-mha")
    results = train_rerankers(trained, "r", {kind: override(RECIPE, [f"rerank.kind={kind}"]) for kind in kinds})
    assert [result.name for result in results] == list(kinds)
    best = max(results[1:], key=lambda result: result.validation["ndcg@10"])
    assert chosen_reranker(run) == (run / "rerankers" / best.name).resolve()
    alone = train_reranker(trained, "r", RECIPE, "alone")
    assert alone.validation == results[2].validation


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("train.los=bce", "did you mean train.loss?"),
        ("model.dim=3", "write rerank.NAME=VALUE or train.NAME=VALUE"),
        ("rerank.kind=dot", "the kind is given by --kind"),
        ("train.hard=-1", "train.hard=-1 must not be negative"),
    ],
)
def test_wrong_settings_are_told(rf: CliRunner, run: Path, setting: str, told: str) -> None:
    result = rf.invoke(app, ["rerank", "train", "--run", "r", "--set", setting])
    assert result.exit_code != 0
    assert told in f"{result.output} {result.exception}"
    assert not (run / "rerankers").exists()
