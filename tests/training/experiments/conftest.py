"""One workspace with the tiny dataset for all tests here, and the command in it.

What a test trains is its own by a setting of its own, such as the learning rate: runs are looked up by their settings.
"""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner, Result

from rf_platform.cli.app import app
from rf_platform.dataset import Dataset
from rf_platform.registry import Registry
from rf_platform.settings import Settings, get_settings

SMALL = (
    "model.dim=16",
    "model.max_history=6",
    "train.epochs=1",
    "train.uniform_negatives=10",
    "train.objective=sampled",
)


@pytest.fixture(scope="package")
def workspace(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """The workspace of this process, with a registered copy of the tiny dataset."""
    home = tmp_path_factory.mktemp("ablation")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RF_HOME", str(home))
        patch.setenv("RF_THREADS", "1")
        torch.set_num_threads(1)
        get_settings.cache_clear()
        settings = get_settings()
        copy = settings.workspace.datasets / dataset.name
        shutil.copytree(dataset.path, copy)
        Registry.of(settings).record_dataset(
            name=dataset.name,
            version=dataset.manifest["version"],
            path=copy,
            fingerprint=dataset.fingerprint,
            spec_hash=dataset.spec.hash,
            counts=dataset.manifest["counts"],
        )
        yield settings
    get_settings.cache_clear()


@pytest.fixture(autouse=True)
def in_workspace(workspace: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Be in the workspace whatever another test left in the settings' cache."""
    monkeypatch.setenv("RF_HOME", str(workspace.home))
    monkeypatch.setenv("RF_THREADS", "1")
    monkeypatch.setenv("COLUMNS", "220")
    torch.set_num_threads(1)
    get_settings.cache_clear()
    yield
    get_settings.cache_clear()


@pytest.fixture
def registry(workspace: Settings) -> Registry:
    return Registry.of(workspace)


@pytest.fixture(scope="package")
def rf(workspace: Settings) -> Callable[..., Result]:
    """Run the command line."""
    return lambda *arguments: CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture(scope="package")
def ablate(rf: Callable[..., Result], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Result]:
    """Run a grid, given as the text of its file, on small models: ``ablate(grid, name, *options, learning_rate=...)``."""
    directory = tmp_path_factory.mktemp("grids")

    def run(grid: str, name: str, *options: str, learning_rate: float) -> Result:
        path: Path = directory / f"{name}.yaml"
        path.write_text(grid)
        settings = [f"--set={s}" for s in (*SMALL, f"train.learning_rate={learning_rate}")]
        return rf("ablate", "--grid", path, "--name", name, *settings, *options)

    return run
