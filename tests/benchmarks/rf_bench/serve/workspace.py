"""A workspace to load a server from: a synthetic catalog of any size, users with full histories, bundles.

The model is trained for a short time, on the attributes of items and not on their ids: most of a million ids occur in no
history of some thousand users, and nothing could be learned of them. Attributes are learned from all, so items lie together as
far as they are alike and users lie near what they choose, as the index expects of any trained model.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rf_bench.synthetic import synthetic_dataset
from rf_platform.cli.console import track
from rf_platform.settings import Settings

_EVENTS_A_USER = 1.6
"""Events for each place in a history, so that most users fill it."""
TRAINING_EVENTS = 400_000
"""Events the model learns from, in as many passes as that takes, and at least one: some 300 steps."""
VALIDATION_CASES = 500
"""Validation targets ranked after each pass; choosing the best pass is not what this is about."""


@dataclass(frozen=True, kw_only=True)
class ServiceSize:
    """Size of the service under load."""

    items: int = 1_000_000
    users: int = 5_000
    history: int = 50
    """Most interactions the model reads."""
    dim: int = 64
    seed: int = 0

    @property
    def name(self) -> str:
        """Directory of the workspace."""
        return f"serve-{self.items}-{self.users}-{self.history}-{self.dim}-{self.seed}"


@dataclass(frozen=True, kw_only=True)
class Service:
    """A workspace that can be served."""

    settings: Settings
    bundles: list[str]
    users: list[str]
    """Those with a history as long as the model reads."""
    items: list[str]
    """Some of them."""
    full_histories: float
    """Share of all users that these are."""


def prepare(parent: Path, size: ServiceSize, online_store_url: str | None, bundles: int = 1) -> Service:
    """Make the workspace, or take the one that is there, and load the users' features into the online store.

    Args:
        parent: where workspaces of benchmarks lie.
        size: how large.
        online_store_url: as in RF_ONLINE_STORE_URL; None: SQLite in the workspace.
        bundles: how many to take turns with; those that are missing are built.
    """
    from rf_platform.features.materialize import materialize

    home = parent / size.name
    settings = Settings(home=home, online_store_url=online_store_url)
    made = home / "service.json"
    if not made.exists():
        made.write_text(json.dumps(_make(settings, size)))
    service = json.loads(made.read_text())
    while len(service["bundles"]) < bundles:
        service["bundles"].append(_bundle(settings, size, seed=size.seed + len(service["bundles"])))
        made.write_text(json.dumps(service))
    with track("online store", 1) as progress:
        materialize(settings, views=["user_profile", "interaction_context"])
        progress.advance()
    return Service(settings=settings, **service)


def _make(settings: Settings, size: ServiceSize) -> dict[str, Any]:
    from rf_platform.data.synth import SynthOptions
    from rf_platform.registry import Registry

    events = round(size.users * size.history * _EVENTS_A_USER)
    sizes = SynthOptions(users=size.users, items=size.items, events=events, seed=size.seed)
    dataset = synthetic_dataset(settings, sizes)
    registry = Registry.of(settings)
    dataset.record(registry)
    bundle = _bundle(settings, size, size.seed)
    registry.promote(bundle)
    full = np.diff(np.asarray(dataset.sequences.offsets)) >= size.history
    some = np.linspace(0, len(dataset.item_ids) - 1, 100).astype(int)
    return {
        "bundles": [bundle],
        "users": [str(user) for user, chosen in zip(dataset.user_ids, full, strict=True) if chosen],
        "items": [str(dataset.item_ids[row]) for row in some],
        "full_histories": float(np.mean(full)),
    }


def _bundle(settings: Settings, size: ServiceSize, seed: int) -> str:
    """Train a model for a moment and build its bundle."""
    from rf_platform.dataset import Dataset
    from rf_platform.registry import Registry
    from rf_serving.bundle.build import build_bundle
    from rf_training.config import Recipe, TrainConfig
    from rf_training.model.config import ModelConfig
    from rf_training.recipes import DatasetStatistics
    from rf_training.run import start_run, use_threads

    registry = Registry.of(settings)
    data = DatasetStatistics.of(Dataset.open(registry.dataset(None).path))
    recipe = Recipe(
        name="bench-serve",
        model=ModelConfig(dim=size.dim, max_history=size.history, fusion="mean", bag_pooling="sum", item_id=False),
        train=TrainConfig(
            epochs=max(1, round(TRAINING_EVENTS / data.events)),
            overlap=0.0,
            validation_cases=VALIDATION_CASES,
            seed=seed,
        ),
    )
    use_threads(settings)
    run = start_run(settings, recipe, None, f"trained-{seed}").name
    return build_bundle(registry, settings.workspace.bundles, run).record.name
