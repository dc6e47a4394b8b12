"""A workspace whose newest bundle has a re-ranker, of random weights: nothing it does is the order of the search."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from rf_platform.settings import Settings, get_settings

if TYPE_CHECKING:
    from rf_platform.registry import Registry
    from rf_serving.bundle.served import ServedBundle
    from rf_training.rerank.ranker import Ranker

REPOSITORY = Path(__file__).parents[3] / "feature_repo" / "movielens"
DIM = 16
PLAIN, RANKED = "tiny-run-1", "tiny-run-2"


def _random_ranker(seed: int = 0, dim: int = DIM, **config: Any) -> "Ranker":
    import torch

    from rf_training.rerank import RerankConfig, make_ranker

    torch.manual_seed(seed)
    ranker = make_ranker(RerankConfig(links=4, heads=2, width=8, hidden=8, scale=1.0, **config), dim)
    with torch.no_grad():
        for parameter in ranker.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return ranker.eval()


def _store(run: Path, ranker: "Ranker", name: str = "lime") -> None:
    from rf_training.rerank.kinds import save_ranker
    from rf_training.rerank.store import choose_reranker, publish_reranker, towers_sha256, write_facts

    with publish_reranker(run, name) as directory:
        save_ranker(directory, ranker)
        write_facts(directory, {"towers_sha256": towers_sha256(run)}, {"ndcg@10": 0.1})
    choose_reranker(run, name)


@pytest.fixture(scope="session")
def random_ranker() -> Callable[..., "Ranker"]:
    """Makes a re-ranker: ``random_ranker(seed, kind="lime-xor")``."""
    return _random_ranker


@pytest.fixture(scope="session")
def store_ranker() -> Callable[..., None]:
    """Gives a run a re-ranker and chooses it, as its training does: ``store_ranker(run_path, ranker)``."""
    return _store


def _registry(home: Path) -> "Registry":
    from rf_platform.registry import Registry

    return Registry.of(Settings(home=home, feature_repo=REPOSITORY))


@pytest.fixture(scope="session")
def registry_of() -> Callable[[Path], "Registry"]:
    """Opens the registry of a workspace."""
    return _registry


@pytest.fixture(scope="session")
def ranked_home(
    home: Path, tmp_path_factory: pytest.TempPathFactory, copy_workspace: Callable[[Path, Path], Path]
) -> Path:
    """A copy of the workspace with the bundle ``RANKED`` of the same run; ``PLAIN`` is promoted."""
    from rf_serving.bundle.build import build_bundle

    copied = copy_workspace(home, tmp_path_factory.mktemp("rerank") / "home")
    registry = _registry(copied)
    _store(copied / "runs" / "tiny-run", _random_ranker())
    built = build_bundle(registry, copied / "bundles", "tiny-run")
    assert (built.record.name, built.reranker) == (RANKED, "lime-mha")
    return copied


@pytest.fixture
def ranked_copy(ranked_home: Path, tmp_path: Path, copy_workspace: Callable[[Path, Path], Path]) -> Settings:
    """A copy of that workspace for one test."""
    copied = copy_workspace(ranked_home, tmp_path / "home")
    return Settings(home=copied, feature_repo=REPOSITORY)


@pytest.fixture(scope="session")
def ranked(ranked_home: Path) -> "ServedBundle":
    """The bundle with the re-ranker: 60 items, numbered from 1."""
    from rf_serving.bundle.served import ServedBundle

    return ServedBundle.open(ranked_home / "bundles" / RANKED)


@pytest.fixture(scope="session")
def plain(ranked_home: Path) -> "ServedBundle":
    """The bundle of the same run without it."""
    from rf_serving.bundle.served import ServedBundle

    return ServedBundle.open(ranked_home / "bundles" / PLAIN)


@pytest.fixture
def run_rf(
    monkeypatch: pytest.MonkeyPatch, run_command: Callable[..., tuple[int, str, str]]
) -> Iterator[Callable[..., Any]]:
    """Runs ``rf`` in a workspace, ``run_rf(home, *arguments)``; returns exit code, standard output and standard error."""

    monkeypatch.setenv("RF_FEATURE_REPO", str(REPOSITORY))
    monkeypatch.setenv("COLUMNS", "160")

    def run(home: Path, *arguments: str) -> tuple[int, str, str]:
        monkeypatch.setenv("RF_HOME", str(home))
        get_settings.cache_clear()
        return run_command(*arguments)

    yield run
    get_settings.cache_clear()
