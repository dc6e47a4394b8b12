"""A workspace with a trained and evaluated run on items whose titles are hostile, and one on items with nothing but vectors."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from rf_platform.dataset import Dataset
from rf_platform.dataset.build import build_dataset
from rf_platform.features.read import FeatureDefinitions, ViewSource
from rf_platform.features.spec import DomainSpec, EntitySpec, FeatureSpec, FieldSpec
from rf_platform.registry import Registry
from rf_platform.settings import Settings
from rf_training.baselines import BESIDE_EVERY_RUN, TrainingData, compare
from rf_training.config import Recipe, TrainConfig
from rf_training.evaluation import Jagged, Split
from rf_training.model.config import ModelConfig
from rf_training.model.storage import load_model
from rf_training.model_scorer import ModelScorer
from rf_training.run import start_run, write_metrics

HOSTILE = '<script src="https://evil.example/x.js">alert(1)</script>'
RECIPE = Recipe(
    name="default",
    model=ModelConfig(dim=8, layers=1, max_history=6),
    train=TrainConfig(epochs=2, batch_size=2, uniform_negatives=10, checkpoint_steps=50, warmup_epochs=0.5),
)
GENRES = FieldSpec(
    view="items", field="genres", side="item", kind="multi", role="feature", dtype="Array(String)", domain="genre"
)
TITLE = FieldSpec(view="items", field="title", side="item", kind="categorical", role="display", dtype="String")
YEAR = FieldSpec(view="items", field="release_year", side="item", kind="numeric", role="feature", dtype="Int64")
EVENTS = FieldSpec(
    view="past",
    field="kinds",
    side="context",
    kind="categorical",
    role="history",
    dtype="Array(String)",
    domain="kind",
    of="event_type",
)


class FirstItems:
    """A search index that knows three quarters of the catalog."""

    name = "RetrievalFormer (first)"

    def __init__(self, model: ModelScorer) -> None:
        self._model = model

    def scores(self, users: npt.NDArray[np.int64], histories: Jagged) -> npt.NDArray[np.float32]:
        scores = self._model.scores(users, histories).copy()
        scores[:, 30:] = -np.inf
        return scores


def _spec(*fields: FieldSpec) -> FeatureSpec:
    return FeatureSpec(
        service="test",
        user=EntitySpec(name="user", join_key="user_id", id_type="int64"),
        item=EntitySpec(name="item", join_key="item_id", id_type="int64"),
        fields=tuple(sorted(fields, key=lambda f: f.name)),
        domains=tuple(DomainSpec(name=f.domain, value_type="string") for f in fields if f.domain),
        history_length=10,
    )


def _dataset(settings: Settings, name: str, spec: FeatureSpec) -> Dataset:
    tables = settings.workspace.tables
    source = ViewSource(
        view="items",
        side="item",
        path=str(tables / "items.parquet"),
        join_key="item_id",
        timestamp="event_timestamp",
        created=None,
        ttl=None,
        columns={f.field: f.field for f in spec.fields if f.view == "items"},
    )
    definitions = FeatureDefinitions(spec=spec, sources=(source,))
    dataset = build_dataset(definitions, tables / "interactions.parquet", settings.workspace.datasets, name)[0]
    Registry.of(settings).record_dataset(
        name=dataset.name,
        version=dataset.manifest["version"],
        path=dataset.path,
        fingerprint=dataset.fingerprint,
        spec_hash=spec.hash,
        counts=dataset.manifest["counts"],
    )
    return dataset


@pytest.fixture(scope="session")
def workspace(tmp_path_factory: pytest.TempPathFactory, write_tables: Callable[..., None]) -> Settings:
    """Runs ``full``, evaluated, with changed settings, and ``bare``, whose items have one number and no title."""
    torch.set_num_threads(1)
    settings = Settings(home=tmp_path_factory.mktemp("report"), threads=1)
    tables = settings.workspace.tables
    write_tables(tables)
    items = pq.read_table(tables / "items.parquet")
    titles = [HOSTILE, "七人の侍", "$9.99 & $1", '"quoted" id="#2a6fbb"'] * 10
    pq.write_table(
        items.set_column(items.column_names.index("title"), "title", pa.array(titles)), tables / "items.parquet"
    )
    registry = Registry.of(settings)

    bare = _dataset(settings, "bare", _spec(YEAR, EVENTS))
    unaveraged = replace(RECIPE, train=replace(RECIPE.train, epochs=1, ema_decay=0.0))
    start_run(settings, unaveraged, bare.name, "bare")

    dataset = _dataset(settings, "full", _spec(GENRES, TITLE, YEAR, EVENTS))
    start_run(settings, RECIPE, dataset.name, "full")
    run = registry.run("full")
    model = ModelScorer(load_model(run.path / "best", dataset.encoder), dataset)
    report = compare(
        [model, FirstItems(model)],
        BESIDE_EVERY_RUN,
        TrainingData.from_dataset(dataset),
        split=Split.TEST,
        seed=0,
        reference="popularity",
        exact_of={FirstItems.name: model.name},
    )
    write_metrics(run.path, registry, "full", {"test": report.to_dict()})
    return settings


@pytest.fixture
def run_directory(workspace: Settings) -> Path:
    """Directory of the run ``full``."""
    return workspace.workspace.runs / "full"
