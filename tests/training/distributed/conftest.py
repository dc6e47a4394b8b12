"""Several real processes on one host, over gloo: one start serves many checks, for most of it is imports."""

import os
import shutil
import sys

import pytest

from rf_platform.dataset import Dataset
from rf_platform.registry import Registry
from rf_platform.settings import Settings


def environment(**more: str) -> dict[str, str]:
    """What a child needs to import this tree and to leave the other cores alone."""
    paths = os.pathsep.join(p for p in sys.path if p)
    return {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "RF_THREADS": "1", **more}


@pytest.fixture(scope="session")
def alone() -> dict[str, str]:
    """The environment of a child that is started alone."""
    return environment()


@pytest.fixture(scope="session")
def workspace(tmp_path_factory: pytest.TempPathFactory, dataset: Dataset) -> Settings:
    """A workspace with the tiny dataset, for commands."""
    settings = Settings(home=tmp_path_factory.mktemp("home"), threads=1)
    copy = settings.workspace.datasets / dataset.name
    shutil.copytree(dataset.path, copy)
    opened = Dataset.open(copy)
    opened.record(Registry.of(settings))
    return settings
