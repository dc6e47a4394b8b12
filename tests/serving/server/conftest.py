import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from rf_platform.settings import Settings

if TYPE_CHECKING:
    from rf_platform.dataset import Dataset
    from rf_platform.registry import Registry

REPOSITORY = Path(__file__).parents[3] / "feature_repo" / "movielens"
FIRST, SECOND = "tiny-run-1", "other-run-1"


@pytest.fixture(scope="session")
def home_of_two(
    home: Path,
    dataset: "Dataset",
    tmp_path_factory: pytest.TempPathFactory,
    copy_workspace: Callable[[Path, Path], Path],
) -> Path:
    """A copy of the workspace with a bundle of another model beside the promoted one."""
    import torch

    from rf_platform.registry import Registry
    from rf_serving.bundle.build import build_bundle
    from rf_training.model.config import ModelConfig
    from rf_training.model.retrievalformer import RetrievalFormer
    from rf_training.model.storage import save_model

    torch.manual_seed(1)
    other = RetrievalFormer(ModelConfig(dim=16, layers=2, heads=2, max_history=8), dataset.encoder)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    copied = copy_workspace(home, tmp_path_factory.mktemp("two") / "home")
    settings = Settings(home=copied, feature_repo=REPOSITORY)
    registry = Registry.open(settings.platform_registry_url, root=copied)
    path = settings.workspace.runs / "other-run"
    save_model(path / "best", other.eval())
    (path / "metrics.json").write_text(json.dumps({"recall@20": 0.6}))
    registry.start_run("other-run", dataset=dataset.name, recipe="tiny", config={}, path=path)
    registry.finish_run("other-run", {"recall@20": 0.6})
    built = build_bundle(registry, settings.workspace.bundles, "other-run")
    assert built.record.name == SECOND
    return copied


@pytest.fixture
def pair(home_of_two: Path, tmp_path: Path, copy_workspace: Callable[[Path, Path], Path]) -> Settings:
    """A workspace of its own with two bundles, ``FIRST`` promoted."""
    copied = copy_workspace(home_of_two, tmp_path / "home")
    return Settings(home=copied, feature_repo=REPOSITORY)


@pytest.fixture
def pair_registry(pair: Settings) -> "Registry":
    """Its registry."""
    from rf_serving.server.opening import open_registry

    return open_registry(pair)


@pytest.fixture(scope="session")
def wait_until() -> Callable[..., None]:
    """Wait for a condition: ``wait_until(condition, seconds)``."""

    def wait(condition: Callable[[], object], seconds: float = 20.0) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, "it did not come to pass in time"
            time.sleep(0.005)

    return wait
