"""`rf ablate` from the grid to the files, on a tiny dataset."""

import csv
import json
import shutil
import signal
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import Result

import rf_training.run
from rf_platform.errors import InterruptedRunError, RunError, UsageError
from rf_platform.interrupts import listening
from rf_platform.locks import claimed
from rf_platform.registry import Registry
from rf_platform.settings import Settings
from rf_training.trainer import Trainer

Ablate = Callable[..., Result]

TWO_GROUPS = """
groups:
  history:
    title: How much is read
    variants: {short: {model.max_history: 2}}
  ids:
    variants: {on: {model.item_id: true}, off: {model.item_id: false}}
"""
"""Three trainings for a seed: the base, which both groups have, and one variant each."""
ONE_GROUP = "groups: {history: {variants: {short: {model.max_history: 2}}}}"


class Counted(Trainer):
    """Notes every training by the name of its run, and whether it was resumed."""

    log: list[tuple[str, bool]]

    def run(self, resume: bool = False) -> Any:
        self.log.append((self.directory.name, resume))
        return super().run(resume)


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, bool]]:
    Counted.log = []
    monkeypatch.setattr(rf_training.run, "Trainer", Counted)
    return Counted.log


@pytest.fixture(scope="module")
def finished(ablate: Ablate, workspace: Settings) -> tuple[dict[str, Any], Path]:
    """Results of two groups with two seeds, and their directory."""
    done = ablate(TWO_GROUPS, "finished", "--seeds=0,1", "--json", learning_rate=5e-3)
    assert done.exception is None, done.output
    return json.loads(done.stdout), workspace.workspace.root / "ablations" / "finished"


def arms(result: dict[str, Any], group: str) -> dict[str, dict[str, Any]]:
    (found,) = (g for g in result["groups"] if g["name"] == group)
    return {arm["name"]: arm for arm in found["arms"]}


def test_a_cell_is_trained_once_and_never_again(ablate: Ablate, trainings: list[tuple[str, bool]]) -> None:
    done = ablate(TWO_GROUPS, "once", "--json", learning_rate=4e-3)
    assert done.exception is None, done.output
    result = json.loads(done.stdout)
    names = [name for name, _ in trainings]
    assert len(names) == len(set(names)) == 3  # the groups share their base
    assert arms(result, "history")["6"]["runs"] == arms(result, "ids")["on"]["runs"]
    assert result["missing"] == {}
    trainings.clear()
    again = ablate(TWO_GROUPS, "once", "--json", learning_rate=4e-3)
    other = ablate(ONE_GROUP, "another-name", learning_rate=4e-3)
    assert (again.exception, other.exception, trainings) == (None, None, [])
    assert json.loads(again.stdout) == result


class Interrupted(Counted):
    """Ctrl-C after the first epoch of the second cell, just before its checkpoint is written."""

    def _save(self) -> None:
        super()._save()
        if len(self.log) == 2:
            signal.raise_signal(signal.SIGINT)


def test_an_interrupted_ablation_goes_on_where_it_stopped(
    ablate: Ablate, registry: Registry, workspace: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    two_epochs = "--set=train.epochs=2"
    with monkeypatch.context() as patch:
        Interrupted.log = Counted.log = []
        patch.setattr(rf_training.run, "Trainer", Interrupted)
        stopped = ablate(TWO_GROUPS, "stopped", two_epochs, learning_rate=3e-3)
    (first, _), (second, _) = Counted.log
    assert isinstance(stopped.exception, RunError)
    assert "2 of 3 runs to go; the same command goes on" in str(stopped.exception)
    assert [registry.run(name).status for name in (first, second)] == ["completed", "failed"]
    early = json.loads((workspace.workspace.root / "ablations" / "stopped" / "results.json").read_text())
    assert len(early["missing"]) == 2  # there is a table after every cell
    cut = registry.run(second)  # a process that is killed leaves this state behind
    registry.start_run(second, dataset=cut.dataset, recipe=cut.recipe, config=cut.config, path=cut.path, resume=True)

    Counted.log = []
    monkeypatch.setattr(rf_training.run, "Trainer", Counted)
    done = ablate(TWO_GROUPS, "stopped", two_epochs, "--json", learning_rate=3e-3)
    assert done.exception is None, done.output
    assert json.loads(done.stdout)["missing"] == {}
    assert [resumed for _, resumed in Counted.log] == [True, False]
    assert Counted.log[0][0] == second
    history = (registry.run(second).path / "history.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in history] == [1, 2]


class Swallowed(Counted):
    """A library swallows an interrupt and raises an error of its own, as DuckDB does."""

    def run(self, resume: bool = False) -> Any:
        self.log.append((self.directory.name, resume))
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            raise RuntimeError("Query interrupted") from None


def test_an_interrupt_that_a_library_swallows_ends_the_ablation(
    ablate: Ablate, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    Swallowed.log = []
    monkeypatch.setattr(rf_training.run, "Trainer", Swallowed)
    with listening():
        stopped = ablate(TWO_GROUPS, "swallowed", learning_rate=1e-3)
    ((name, _),) = Swallowed.log
    assert isinstance(stopped.exception, InterruptedRunError)
    assert "3 of 3 runs to go" in str(stopped.exception)
    assert registry.run(name).error == "interrupted"


class FailsOnShortHistories(Counted):
    """One variant that cannot be trained."""

    def run(self, resume: bool = False) -> Any:
        if self.recipe.model.max_history == 2:
            raise RuntimeError("this does not fit")
        return super().run(resume)


def test_one_failure_stops_nothing_else(
    ablate: Ablate, rf: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        FailsOnShortHistories.log = []
        patch.setattr(rf_training.run, "Trainer", FailsOnShortHistories)
        failed = ablate(TWO_GROUPS, "failing", "--json", learning_rate=2e-3)
    assert isinstance(failed.exception, RunError)
    assert "1 of 3 runs failed: ablate-max_history-2-" in str(failed.exception)
    result = json.loads(failed.stdout)
    (reason,) = result["missing"].values()
    assert reason == "RuntimeError: this does not fit"
    assert arms(result, "history")["short"]["targets"] == {}
    assert arms(result, "ids")["off"]["targets"]["all"]["ndcg@20"]["difference"] is not None

    shown = json.loads(rf("ablate", "--name=failing", "--only-report", "--json").stdout)
    assert list(shown["missing"].values()) == ["failed: RuntimeError: this does not fit"]
    done = ablate(TWO_GROUPS, "failing", "--json", learning_rate=2e-3)
    assert done.exception is None, done.output
    assert json.loads(done.stdout)["missing"] == {}


def test_only_report_trains_nothing(
    rf: Callable[..., Result], finished: tuple[dict[str, Any], Path], trainings: list[tuple[str, bool]]
) -> None:
    assert json.loads(rf("ablate", "--name=finished", "--only-report", "--json").stdout) == finished[0]
    assert trainings == []


@pytest.mark.parametrize("split", ["validation", "test"])
def test_figures_are_those_of_evaluate(
    split: str, rf: Callable[..., Result], finished: tuple[dict[str, Any], Path], registry: Registry
) -> None:
    result, directory = finished
    if split == "test":
        done = rf("ablate", "--name=finished", "--only-report", "--split=test", "--json")
        assert done.exception is None, done.output
        result = json.loads(done.stdout)
        assert (directory / "test" / "table.md").exists()
    for arm in arms(result, "history").values():
        by_seed = []
        for run in arm["runs"].values():
            report = json.loads(rf("evaluate", run, "--split", split, "--json").stdout)
            (ours,) = (r for r in report["results"] if r["scorer"] == "RetrievalFormer" and r["seen"] == "excluded")
            by_seed.append(ours["metrics"])
        for metric, score in arm["targets"]["all"].items():
            values = [metrics[metric]["value"] for metrics in by_seed]
            assert score["value"] == pytest.approx(np.mean(values), abs=1e-12)
            assert score["spread"] == pytest.approx(np.std(values, ddof=1), abs=1e-12)
    if split == "validation":  # what training itself found
        base = arms(result, "history")["6"]
        found = [registry.run(run).metrics["validation"]["ndcg@20"] for run in base["runs"].values()]
        assert base["targets"]["all"]["ndcg@20"]["value"] == pytest.approx(np.mean(found), abs=1e-12)


def test_differences_are_paired_and_from_the_base(finished: tuple[dict[str, Any], Path]) -> None:
    result, _ = finished
    for group in ("history", "ids"):
        (base,) = (arm for arm in arms(result, group).values() if arm["base"])
        for arm in arms(result, group).values():
            for metric, score in arm["targets"]["all"].items():
                if arm["base"]:
                    assert score["difference"] is None
                    continue
                expected = score["value"] - base["targets"]["all"][metric]["value"]
                d = score["difference"]
                assert d["value"] == pytest.approx(expected, abs=1e-12)
                assert d["low"] <= d["value"] <= d["high"]


def test_the_tables_say_what_the_results_say(finished: tuple[dict[str, Any], Path]) -> None:
    result, directory = finished
    with (directory / "table.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(r["group"], r["variant"], r["base"]) for r in rows] == [
        ("history", "6", "1"),
        ("history", "short", "0"),
        ("ids", "on", "1"),
        ("ids", "off", "0"),
    ]
    markdown = (directory / "table.md").read_text()
    for row in rows:
        arm = arms(result, row["group"])[row["variant"]]
        score = arm["targets"]["all"]["recall@20"]
        assert float(row["recall@20"]) == score["value"]
        assert row["seeds"] == "0 1"
        assert float(row["cpu seconds per epoch"]) == arm["cpu_seconds"] > 0
        assert int(row["parameters"]) == arm["parameters"] > 1000
        (line,) = (x for x in markdown.splitlines() if x.replace("**", "").startswith(f"| {row['variant']} "))
        assert f"{score['value']:.4f} ±{score['spread']:.4f}" in line
        assert f"{arm['parameters']:,}" in line
    off = next(r for r in rows if r["variant"] == "off")
    assert off["settings"] == "model.item_id=False"
    assert int(off["parameters"]) < int(rows[0]["parameters"])
    assert "## How much is read" in markdown
    assert json.loads((directory / "results.json").read_text()) == {k: v for k, v in result.items() if k != "files"}


def test_the_plot_is_written(finished: tuple[dict[str, Any], Path]) -> None:
    result, directory = finished
    assert result["files"][-2:] == [str(directory / "plot.png"), str(directory / "plot.svg")]
    assert (directory / "plot.png").read_bytes()[:4] == b"\x89PNG"
    svg = (directory / "plot.svg").read_text()
    for text in ("How much is read", "Ids", "short", "off", "base", "± deviation of seeds"):
        assert f">{text}</text>" in svg, text


def test_the_terminal_shows_every_group(rf: Callable[..., Result], finished: tuple[dict[str, Any], Path]) -> None:
    done = rf("ablate", "--name=finished", "--only-report")
    assert done.exception is None, done.output
    for text in ("How much is read", "Ids", "6 (base)", "short", "written to"):
        assert text in done.stdout


def test_more_groups_and_seeds_join_an_ablation(ablate: Ablate, trainings: list[tuple[str, bool]]) -> None:
    assert ablate(TWO_GROUPS, "growing", "--group=ids:off", learning_rate=1e-3).exception is None
    assert len(trainings) == 2
    done = ablate(TWO_GROUPS, "growing", "--group=history", "--json", learning_rate=1e-3)
    assert [g["name"] for g in json.loads(done.stdout)["groups"]] == ["ids", "history"]
    assert len(trainings) == 3
    other = ablate(TWO_GROUPS, "growing", learning_rate=9e-4)
    assert isinstance(other.exception, UsageError)
    assert "made with train.learning_rate=0.001, not 0.0009: give the new one another name" in str(other.exception)


def test_a_cell_another_process_trains_is_left_to_it(
    ablate: Ablate, workspace: Settings, trainings: list[tuple[str, bool]], monkeypatch: pytest.MonkeyPatch
) -> None:
    planned = json.loads(ablate(ONE_GROUP, "shared", "--dry-run", "--json", learning_rate=8e-4).stdout)["runs"]
    assert list(planned.values()) == ["to train"] * 2
    first, second = planned
    before_the_wait: list[str] = []
    with ExitStack() as other_process:
        other_process.enter_context(claimed(workspace.workspace.root / "ablations" / ".locks" / first))

        def until_the_other_is_done(*_: Any) -> None:
            before_the_wait.extend(name for name, _ in trainings)
            other_process.close()
            assert ablate(ONE_GROUP, "the-others", learning_rate=8e-4).exception is None

        monkeypatch.setattr("rf_training.experiments.plan._wait", until_the_other_is_done)
        done = ablate(ONE_GROUP, "shared", "--json", learning_rate=8e-4)
    assert done.exception is None, done.output
    assert before_the_wait == [second]
    assert [name for name, _ in trainings] == [second, first]
    assert json.loads(done.stdout)["missing"] == {}


def test_a_run_whose_files_are_gone_is_trained_again(
    ablate: Ablate, registry: Registry, trainings: list[tuple[str, bool]]
) -> None:
    assert ablate(ONE_GROUP, "lost", learning_rate=7e-4).exception is None
    (lost, _), _ = trainings
    shutil.rmtree(registry.run(lost).path)
    trainings.clear()
    done = ablate(ONE_GROUP, "lost", "--json", learning_rate=7e-4)
    assert done.exception is None, done.output
    assert trainings == [(f"{lost}-2", False)]
    assert json.loads(done.stdout)["missing"] == {}
