"""A run on the tiny dataset, whose towers the re-rankers stand on."""

import shutil
from pathlib import Path

import pytest
import torch

from rf_platform.dataset import Dataset
from rf_platform.registry import Registry
from rf_platform.settings import Settings
from rf_training.config import Recipe, TrainConfig
from rf_training.model.config import ModelConfig
from rf_training.model.storage import load_model
from rf_training.rerank.towers import Towers
from rf_training.run import start_run

RECIPE = Recipe(
    name="tiny",
    model=ModelConfig(dim=16, max_history=6, item_bias=True),
    train=TrainConfig(epochs=2, batch_size=16, uniform_negatives=10, learning_rate=5e-3),
)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, dataset: Dataset) -> Settings:
    """A workspace with a completed run 'r' on a copy of the tiny dataset; not to be changed."""
    torch.set_num_threads(1)
    settings = Settings(home=tmp_path_factory.mktemp("rerank") / "home", threads=1)
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
    start_run(settings, RECIPE, None, "r")
    return settings


@pytest.fixture
def run(trained: Settings) -> Path:
    """The directory of that run, without any re-ranker or experiment when a test starts."""
    directory = trained.workspace.runs / "r"
    for made in ("rerankers", "rerank-experiments"):
        shutil.rmtree(directory / made, ignore_errors=True)
    (directory / "reranker").unlink(missing_ok=True)
    return directory


@pytest.fixture(scope="session")
def towers(trained: Settings) -> Towers:
    (path,) = (trained.workspace.datasets).iterdir()
    dataset = Dataset.open(path)
    return Towers(load_model(trained.workspace.runs / "r" / "best", dataset.encoder), dataset)
