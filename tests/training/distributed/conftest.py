"""Several real processes on one host, over gloo: one launch serves many checks."""

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from rf_platform.dataset import Dataset
from rf_platform.registry import Registry
from rf_platform.settings import Settings

SECONDS = 240


def environment(**more: str) -> dict[str, str]:
    """What a child needs to import this tree and to leave the other cores alone."""
    paths = os.pathsep.join(p for p in sys.path if p)
    return {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "RF_THREADS": "1", **more}


@pytest.fixture(scope="session")
def alone() -> dict[str, str]:
    """The environment of a child that is started alone."""
    return environment()


@pytest.fixture(scope="session")
def together() -> Callable[..., None]:
    """Run a script in several processes: ``together(2, __file__, *arguments)``."""

    def run(processes: int, script: str, *arguments: str | Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = str(probe.getsockname()[1])
        command = [sys.executable, script, *map(str, arguments)]
        size = {"WORLD_SIZE": str(processes), "LOCAL_WORLD_SIZE": str(processes)}
        meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        started = [
            subprocess.Popen(
                command,
                env=environment(RANK=str(rank), LOCAL_RANK=str(rank), **size, **meeting),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            for rank in range(processes)
        ]
        try:
            said = [process.communicate(timeout=SECONDS)[0] for process in started]
        finally:
            for process in started:
                process.kill()
        assert [process.returncode for process in started] == [0] * processes, "\n".join(said)

    return run


@pytest.fixture(scope="session")
def workspace(tmp_path_factory: pytest.TempPathFactory, dataset: Dataset) -> Settings:
    """A workspace with the tiny dataset, for commands."""
    settings = Settings(home=tmp_path_factory.mktemp("home"), threads=1)
    copy = settings.workspace.datasets / dataset.name
    shutil.copytree(dataset.path, copy)
    opened = Dataset.open(copy)
    Registry.open(settings.platform_registry_url, root=settings.workspace.root).record_dataset(
        name=opened.name,
        version=opened.manifest["version"],
        path=opened.path,
        fingerprint=opened.fingerprint,
        spec_hash=opened.spec.hash,
        counts=opened.manifest["counts"],
    )
    return settings
