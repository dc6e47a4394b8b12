"""The grid: every cell a valid recipe, trained once, gone on with after an interruption."""

import json
import shutil
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from rf_platform.cli.app import app
from rf_platform.errors import CorruptError, NotFoundError, RunError
from rf_platform.locks import claimed
from rf_platform.settings import Settings, get_settings
from rf_training.experiments import Group, reranking, select
from rf_training.experiments.grids import RERANKING
from rf_training.experiments.reranking import RerankExperiment
from rf_training.rerank.config import RerankConfig
from rf_training.rerank.quality import METRICS
from rf_training.rerank.recipe import RerankRecipe, RerankTraining
from rf_training.rerank.towers import Towers

BASE = RerankRecipe(
    rerank=RerankConfig(links=4, width=8, hidden=8),
    train=RerankTraining(places=1, hard=4, uniform=4, epochs=1, batch_size=32),
)
GROUPS = {
    "g": Group(name="g", title="G", variants={"one": {"rerank.links": "2"}, "two": {"train.places": "2"}}),
    "h": Group(name="h", title="H", variants={"as one": {"rerank.links": "2"}}),
}


def test_every_variant_of_the_grid_is_a_recipe() -> None:
    for group in RERANKING.values():
        group.recipes(RerankRecipe())
    assert list(select(RERANKING, ["loss"])["loss"].recipes(RerankRecipe())) == ["softmax", "bce"]
    with pytest.raises(NotFoundError, match="no group in this grid is named 'lnks'; did you mean 'links'"):
        select(RERANKING, ["lnks"])


def test_every_group_has_the_recipe_itself_among_its_variants() -> None:
    for group in RERANKING.values():
        assert RerankRecipe() in group.recipes(RerankRecipe()).values(), group.name


def test_an_experiment_goes_on_where_it_stopped_and_trains_equal_cells_once(
    towers: Towers, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[int] = []
    plain = reranking.train_variant

    def counted(recipe: RerankRecipe, *rest: Any) -> dict[str, Any]:
        if len(trained) == 1:
            trained.append(-1)
            raise KeyboardInterrupt
        trained.append(recipe.rerank.links)
        return plain(recipe, *rest)

    monkeypatch.setattr(reranking, "train_variant", counted)
    with pytest.raises(RunError, match="interrupted with 1 trainings to go; the same command goes on"):
        RerankExperiment(run, towers, GROUPS, BASE, tmp_path).run()
    assert len(list((tmp_path / "cells").iterdir())) == 1
    assert "| g | one |" in (tmp_path / "table.md").read_text()
    retriever, results = RerankExperiment(run, towers, GROUPS, BASE, tmp_path).run()
    assert trained == [2, -1, 4]
    assert [(r.group, r.variant) for r in results] == [("g", "one"), ("g", "two"), ("h", "as one")]
    assert results[0].validation == results[2].validation
    written = json.loads((tmp_path / "results.json").read_text())
    assert written["retriever"] == retriever
    assert len(written["cells"]) == 3


def test_a_cell_that_another_process_trains_is_left_to_it(
    towers: Towers, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[int] = []
    plain = reranking.train_variant

    def noted(recipe: RerankRecipe, *rest: Any) -> dict[str, Any]:
        trained.append(recipe.rerank.links)
        return plain(recipe, *rest)

    monkeypatch.setattr(reranking, "train_variant", noted)
    first, second = (each.recipe for each in RerankExperiment(run, towers, GROUPS, BASE, tmp_path / "a").run()[1][:2])
    assert trained == [2, 4]
    with ExitStack() as other_process:
        other_process.enter_context(claimed(tmp_path / "b" / ".locks" / first))

        def until_the_other_is_done(*_: Any) -> None:
            assert [path.stem for path in (tmp_path / "b" / "cells").iterdir()] == [second]
            other_process.close()
            shutil.copy(tmp_path / "a" / "cells" / f"{first}.json", tmp_path / "b" / "cells")

        monkeypatch.setattr("rf_training.experiments.plan._wait", until_the_other_is_done)
        RerankExperiment(run, towers, GROUPS, BASE, tmp_path / "b").run()
    assert trained == [2, 4, 4]


def test_results_of_earlier_versions_are_used_again(
    towers: Towers, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """File names and contents as they have always been: a changed identity would train everything anew."""
    monkeypatch.setattr(reranking, "towers_sha256", lambda run: "0" * 64)
    monkeypatch.setattr(reranking, "train_variant", lambda *_: pytest.fail("trained again"))
    kept = tmp_path / "cells"
    kept.mkdir()
    validation = dict.fromkeys(METRICS, 0.25)
    for name in ("81bf2443a9e5b325", "b534675837e7aef2"):
        values = {"best_epoch": 1, "cpu_s": 2.5, "validation": validation, "history": [], "recipe": {}}
        (kept / f"{name}.json").write_text(json.dumps(values))
    _, results = RerankExperiment(run, towers, GROUPS, BASE, tmp_path).run()
    assert [r.recipe for r in results] == ["81bf2443a9e5b325", "b534675837e7aef2", "81bf2443a9e5b325"]
    assert results[0].validation == validation


def test_a_damaged_result_is_named(towers: Towers, run: Path, tmp_path: Path) -> None:
    experiment = RerankExperiment(run, towers, GROUPS, BASE, tmp_path)
    experiment.run()
    path = next((tmp_path / "cells").iterdir())
    path.write_text("{}")
    with pytest.raises(CorruptError, match=f"{path.name} cannot be read"):
        experiment.run()


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
