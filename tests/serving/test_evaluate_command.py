import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from rf_platform.dataset import Dataset
from rf_platform.errors import RfError, UsageError
from rf_platform.registry import Registry
from rf_platform.settings import Settings, get_settings
from rf_serving.commands.evaluate import app

BOTH = ["popularity", "item-knn", "RetrievalFormer", "RetrievalFormer (hnsw)"]


@pytest.fixture
def workspace(home_copy: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    """A workspace of its own: the command writes into the run."""
    monkeypatch.setenv("RF_HOME", str(home_copy))
    monkeypatch.setenv("RF_THREADS", "1")
    get_settings.cache_clear()
    yield get_settings()
    get_settings.cache_clear()


@pytest.fixture
def call(workspace: Settings) -> Callable[..., Any]:
    def run(*arguments: str) -> Any:
        result = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result

    return run


def test_exact_and_through_the_index(call: Callable[..., Any], workspace: Settings, tmp_path: Path) -> None:
    file = tmp_path / "table.md"
    document = json.loads(call("tiny-run", "--index", "hnsw", "--json", "--markdown", str(file)).stdout)
    assert document["run"] == "tiny-run"
    assert [row["scorer"] for row in document["results"]][::2] == BOTH
    assert document["reference"] == "popularity"
    assert [(a["scorer"], a["exact"], a["kept"]) for a in document["approximations"]] == [
        ("RetrievalFormer (hnsw)", "RetrievalFormer", 1.0)
    ] * 2  # 60 items: the graph holds them all
    assert "| RetrievalFormer (hnsw) (excluded) |" in file.read_text()

    registry = Registry.of(workspace)
    recorded = registry.run("tiny-run").metrics
    assert recorded["test"] == {key: value for key, value in document.items() if key != "run"}
    assert recorded["recall@20"] == 0.5  # what was known before stays
    written = json.loads((registry.run("tiny-run").path / "metrics.json").read_text())
    assert written["test"] == recorded["test"]


def test_tables(call: Callable[..., Any]) -> None:
    printed = call("--index", "hnsw").stdout
    for text in (
        "Test, seen items kept",
        "Recall@20 that a served index keeps of the exact ranking",
        "100.00%",
        "Reach of the catalog",
        "new users",
    ):
        assert text in printed


def test_the_exact_ranking_alone(call: Callable[..., Any]) -> None:
    for index in (["--index", "exact"], []):  # a small catalog is served by a scan
        document = json.loads(call(*index, "--json").stdout)
        assert [row["scorer"] for row in document["results"]][::2] == BOTH[:3]
        assert document["approximations"] == []


def test_validation_is_not_kept_with_the_run(call: Callable[..., Any], workspace: Settings) -> None:
    assert json.loads(call("--split", "validation", "--json").stdout)["split"] == "validation"
    registry = Registry.of(workspace)
    assert "test" not in registry.run("tiny-run").metrics


def test_an_index_that_loses_too_much_is_named(call: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    assert "keeps" not in call("--index", "hnsw", "--json").stderr
    # No index loses anything of so small a catalog.
    monkeypatch.setattr("rf_serving.commands.evaluate.LEAST_KEPT", 1.01)
    warning = call("--index", "hnsw", "--json").stderr
    assert "RetrievalFormer (hnsw) keeps 100.0% of the exact Recall@20 (seen items excluded), less than 101%" in warning
    assert "rf index build --kind exact" in warning


def test_what_cannot_be_is_refused_first(workspace: Settings, tmp_path: Path) -> None:
    runner = CliRunner()
    with pytest.raises(UsageError, match="--index='ivf' is no kind of index"):
        runner.invoke(app, ["--index", "ivf"], catch_exceptions=False)
    with pytest.raises(UsageError, match=r"--markdown .*gone.*cannot be written"):
        runner.invoke(app, ["--markdown", str(tmp_path / "gone" / "table.md")], catch_exceptions=False)


def test_cold_targets_stand_apart(call: Callable[..., Any], dataset: Dataset) -> None:
    """The users' last items are drawn at random: some of them were never trained on."""
    split, item = np.asarray(dataset.sequences.split), np.asarray(dataset.sequences.item)
    cold = ~np.isin(item[split == 2], item[split == 0])
    document = json.loads(call("--json").stdout)
    assert document["cold_targets"] == cold.sum()
    assert (document["warm_cold"] is None) == (not cold.any())


def test_the_arrival_curve_needs_items_without_training_events(call: Callable[..., Any]) -> None:
    with pytest.raises(RfError, match="--protocol cold-items"):
        call("tiny-run", "--arrivals")
