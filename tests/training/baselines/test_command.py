import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rf_platform.dataset import Dataset
from rf_platform.errors import UsageError
from rf_platform.registry import Registry
from rf_platform.settings import get_settings
from rf_training.commands.compare import app
from rf_training.config import Recipe, TrainConfig
from rf_training.model.config import ModelConfig
from rf_training.run import start_run


@pytest.fixture
def home(dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A workspace whose registry knows the dataset."""
    monkeypatch.setenv("RF_HOME", str(tmp_path))
    get_settings.cache_clear()
    settings = get_settings()
    Registry.of(settings).record_dataset(
        name=dataset.name,
        version=1,
        path=dataset.path,
        fingerprint=dataset.fingerprint,
        spec_hash=dataset.spec.hash,
        counts={},
    )
    yield tmp_path
    get_settings.cache_clear()


def call(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_baselines_alone(home: Path, dataset: Dataset) -> None:
    file = home / "table.md"
    report = json.loads(call("--dataset", dataset.name, "--split", "validation", "--json", "--markdown", str(file)))
    assert report["run"] is None
    assert report["dataset"] == dataset.name
    assert report["split"] == "validation"
    assert [r["scorer"] for r in report["results"]][::2] == ["popularity", "recency", "item-knn", "content-knn"]
    assert "| content-knn |" in file.read_text()


def test_a_run_beside_chosen_baselines(home: Path, dataset: Dataset) -> None:
    recipe = Recipe(
        name="tiny",
        model=ModelConfig(dim=16, layers=1, heads=1, max_history=8),
        train=TrainConfig(epochs=1),
    )
    start_run(get_settings(), recipe, dataset.name, "tiny-1")
    printed = call("tiny-1", "--baselines", "recency")
    for text in ("recency", "RetrievalFormer", "Difference from RetrievalFormer", "item-knn"):
        assert (text in printed) == (text != "item-knn")


def test_a_run_and_a_dataset_exclude_each_other(home: Path) -> None:
    with pytest.raises(UsageError, match="leave it out, or leave out the run"):
        call("tiny-1", "--dataset", "tiny-v1")
