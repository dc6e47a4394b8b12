"""The grid: every cell a valid recipe, trained once, gone on with after an interruption."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from rf_platform.cli.app import app
from rf_platform.errors import RunError, UsageError
from rf_platform.settings import Settings, get_settings
from rf_training.experiments import reranking as experiment
from rf_training.experiments.rerank_grid import GRID, Cell, cells
from rf_training.experiments.reranking import run_experiment
from rf_training.recipes import override
from rf_training.rerank.config import RerankConfig
from rf_training.rerank.recipe import RerankRecipe, RerankTraining
from rf_training.rerank.towers import Towers

BASE = RerankRecipe(
    rerank=RerankConfig(links=4, width=8, hidden=8),
    train=RerankTraining(places=1, hard=4, uniform=4, epochs=1, batch_size=32),
)
CELLS = [
    Cell(group="g", variant="one", changes=("rerank.links=2",)),
    Cell(group="g", variant="two", changes=("train.places=2",)),
    Cell(group="h", variant="as one", changes=("rerank.links=2",)),
]


def test_every_cell_of_the_grid_is_a_recipe() -> None:
    for cell in cells(()):
        override(RerankRecipe(), cell.changes)
    assert [cell.variant for cell in cells(["loss"])] == ["softmax", "bce"]
    with pytest.raises(UsageError, match="--group lnks: no such group; known are rankers, links"):
        cells(["lnks"])


def test_every_group_has_the_recipe_itself_among_its_variants() -> None:
    for group in GRID:
        assert any(override(RerankRecipe(), cell.changes) == RerankRecipe() for cell in cells([group])), group


def test_an_experiment_goes_on_where_it_stopped_and_trains_equal_cells_once(
    towers: Towers, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[int] = []
    plain = experiment._train

    def counted(recipe: RerankRecipe, *rest: Any) -> dict[str, Any]:
        if len(trained) == 1:
            trained.append(-1)
            raise KeyboardInterrupt
        trained.append(recipe.rerank.links)
        return plain(recipe, *rest)

    monkeypatch.setattr(experiment, "_train", counted)
    with pytest.raises(RunError, match="the same command goes on"):
        run_experiment(run, towers, CELLS, BASE, tmp_path)
    assert len(list((tmp_path / "cells").iterdir())) == 1
    assert "| g | one |" in (tmp_path / "table.md").read_text()
    retriever, results = run_experiment(run, towers, CELLS, BASE, tmp_path)
    assert trained == [2, -1, 4]
    assert [(r.group, r.variant) for r in results] == [("g", "one"), ("g", "two"), ("h", "as one")]
    assert results[0].validation == results[2].validation
    written = json.loads((tmp_path / "results.json").read_text())
    assert written["retriever"] == retriever
    assert len(written["cells"]) == 3


def test_commands(trained: Settings, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RF_HOME", str(trained.home))
    monkeypatch.setenv("RF_THREADS", "1")
    get_settings.cache_clear()
    rf = CliRunner()
    small = ["--set", "train.epochs=1", "--set", "train.places=1", "--set", "train.hard=4", "--set", "rerank.width=4"]
    told = rf.invoke(app, ["rerank", "experiment", "--run", "r", "--group", "weights", *small, "--json"])
    assert told.exit_code == 0, told.output
    assert [cell["variant"] for cell in json.loads(told.stdout)["cells"]] == ["softmax", "silu"]
    assert (run / "rerank-experiments" / "lime" / "table.md").exists()
    assert rf.invoke(app, ["rerank", "train", "--run", "r", *small]).exit_code == 0
    told = rf.invoke(app, ["rerank", "compare", "--run", "r", "--markdown", str(tmp_path / "t.md"), "--json"])
    assert told.exit_code == 0, told.output
    found = json.loads(told.stdout)
    assert (found["split"], [row["name"] for row in found["rows"]]) == ("validation", ["dot", "lime-mha"])
    assert "| lime-mha |" in (tmp_path / "t.md").read_text()
    told = rf.invoke(app, ["rerank", "compare", "nothing", "--run", "r"])
    assert "no re-ranker 'nothing'; it has lime-mha" in f"{told.output} {told.exception}"
