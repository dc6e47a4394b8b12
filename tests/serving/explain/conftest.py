"""A bundle whose model was trained, on users who keep to one genre: attributions of random weights prove little."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from rf_platform.settings import Settings

if TYPE_CHECKING:
    from rf_platform.dataset import Dataset
    from rf_serving.bundle.served import ServedBundle
    from rf_serving.catalog.snapshot import CatalogSnapshot
    from rf_serving.user_features.features import KnownFeatures

REPOSITORY = Path(__file__).parents[3] / "feature_repo" / "movielens"
USERS, EVENTS = 60, 16
MAX_HISTORY = 12


@pytest.fixture(scope="session")
def learned(tmp_path_factory: pytest.TempPathFactory, write_tables: Callable[..., None]) -> Settings:
    """A workspace with features loaded."""
    from rf_platform.features.apply import apply_definitions
    from rf_platform.features.materialize import materialize

    home = tmp_path_factory.mktemp("explain")
    write_tables(home / "tables", users=USERS, items=80, events=EVENTS)
    settings = Settings(home=home, feature_repo=REPOSITORY, online_store_url=None)
    apply_definitions(settings)
    materialize(settings)
    return settings


@pytest.fixture(scope="session")
def learned_dataset(learned: Settings) -> "Dataset":
    """Its dataset."""
    from rf_platform.dataset.build import build_dataset
    from rf_platform.features.read import read_definitions
    from rf_platform.features.store import open_store

    definitions = read_definitions(open_store(learned), learned.feature_service)
    interactions = learned.workspace.tables / "interactions.parquet"
    return build_dataset(definitions, interactions, learned.workspace.datasets, "tiny")[0]


@pytest.fixture(scope="session")
def trained(learned: Settings, learned_dataset: "Dataset") -> "ServedBundle":
    """A bundle of a model that was trained on it."""
    import torch

    from rf_platform.registry import Registry
    from rf_serving.bundle.build import build_bundle
    from rf_serving.bundle.served import ServedBundle
    from rf_training.config import Recipe, TrainConfig
    from rf_training.model.config import ModelConfig
    from rf_training.trainer import Trainer

    torch.set_num_threads(1)
    dataset = learned_dataset
    registry = Registry.of(learned)
    dataset.record(registry)
    path = learned.workspace.runs / "learned"
    path.mkdir(parents=True)
    recipe = Recipe(
        name="tiny",
        model=ModelConfig(dim=16, max_history=MAX_HISTORY, dropout=0.1),
        train=TrainConfig(epochs=10, batch_size=8, learning_rate=5e-3, ema_decay=0.5, uniform_negatives=40),
    )
    result = Trainer(recipe, dataset, path).run()
    (path / "metrics.json").write_text(json.dumps(result.validation))
    registry.start_run("learned", dataset=dataset.name, recipe="tiny", config={}, path=path)
    registry.finish_run("learned", result.validation)
    return ServedBundle.open(build_bundle(registry, learned.workspace.bundles, "learned").record.path)


@pytest.fixture(scope="session")
def snapshot(trained: "ServedBundle") -> "CatalogSnapshot":
    """Its catalog."""
    from rf_serving.catalog.snapshot import CatalogSnapshot

    return CatalogSnapshot.of(trained)


@pytest.fixture(scope="session")
def people(learned: Settings, trained: "ServedBundle", snapshot: "CatalogSnapshot") -> "list[KnownFeatures]":
    """What the online store knows of every user."""
    from rf_platform.features.store import open_store
    from rf_serving.user_features.fetcher import FeatureFetcher

    fetcher = FeatureFetcher(open_store(learned), trained)
    try:
        return [each.known(snapshot) for each in fetcher.fetch_many(range(1, USERS + 1))]
    finally:
        fetcher.close()


@pytest.fixture(scope="session")
def encoder(trained: "ServedBundle") -> Any:
    """The encoder of its requests."""
    from rf_serving.encoding import UserEncoder

    return UserEncoder(trained)


@pytest.fixture(scope="session")
def explainer(trained: "ServedBundle", encoder: Any) -> Any:
    """What is tested."""
    from rf_serving.explain import Explainer

    return Explainer(trained, encoder)


@pytest.fixture(scope="session", params=["lime-mha", "lime-xor"])
def lime(
    request: pytest.FixtureRequest, people: "list[KnownFeatures]", snapshot: "CatalogSnapshot", encoder: Any
) -> Any:
    """A LIME re-ranker that has learned from these users' events what comes next."""
    import numpy as np
    import torch
    from torch.nn import functional as F

    from rf_serving.explain.user_causes import latest
    from rf_serving.ranking.lime import histories_of
    from rf_serving.user_features.features import KnownFeatures
    from rf_training.rerank.config import RerankConfig
    from rf_training.rerank.kinds import make_ranker

    def first(known: KnownFeatures, events: int) -> KnownFeatures:
        times = None if known.timestamps is None else known.timestamps[:events]
        context = {name: list(column[:events]) for name, column in known.context.items()}
        return latest(KnownFeatures(known.profile, known.rows[:events], times, context), MAX_HISTORY)

    before = [(known, length) for known in people for length in (4, 8, 12, 15)]
    users = encoder.encode_users([first(known, length) for known, length in before], snapshot)
    next_B = torch.tensor([known.rows[length] for known, length in before])
    histories = histories_of(users)
    items_ND = torch.from_numpy(np.array(snapshot.vectors(np.arange(snapshot.rows))))
    dot_BN = torch.from_numpy(np.stack([user.query_D for user in users])) @ items_ND.T
    torch.manual_seed(0)
    ranker = make_ranker(RerankConfig(kind=request.param, links=8, width=8, hidden=16, dropout=0.0), 16)
    optimizer = torch.optim.Adam(ranker.parameters(), 1e-2)
    for _ in range(50):
        item_NW = ranker.item_state(items_ND[:, : ranker.dim])
        scores_BN = ranker(ranker.user_state(histories), item_NW.expand(len(users), -1, -1), dot_BN)
        loss = F.cross_entropy(scores_BN, next_B)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return ranker.eval()
