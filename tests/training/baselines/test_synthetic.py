"""The attributes of the synthetic catalog explain choices: what only knows attributes beats what only counts."""

import numpy as np
import pytest

from rf_platform.data.synth import SynthOptions, synthesise
from rf_platform.dataset import Dataset
from rf_platform.dataset.build import BuildOptions, build_dataset
from rf_platform.dataset.protocols import ColdItems
from rf_platform.features.read import FeatureDefinitions, ViewSource
from rf_platform.features.spec import DomainSpec, EntitySpec, FeatureSpec, FieldSpec
from rf_platform.workspace import Workspace
from rf_training.baselines.content_knn import ContentKNN
from rf_training.baselines.popularity import Popularity
from rf_training.baselines.training_data import TrainingData
from rf_training.evaluation.cases import EvaluationCases
from rf_training.evaluation.ranking import TargetRanks, rank_targets
from rf_training.evaluation.scorer import Scorer
from rf_training.evaluation.sequences import Split

ATTRIBUTES = ("category", "brand", "tags")
SPEC = FeatureSpec(
    service="test",
    user=EntitySpec(name="user", join_key="user_id", id_type="int64"),
    item=EntitySpec(name="item", join_key="item_id", id_type="int64"),
    fields=(
        *(
            FieldSpec(
                view="items",
                field=name,
                side="item",
                kind="multi" if name == "tags" else "categorical",
                role="feature",
                dtype="Array(String)" if name == "tags" else "String",
                domain=name,
            )
            for name in ATTRIBUTES
        ),
        FieldSpec(
            view="past",
            field="item_ids",
            side="context",
            kind="categorical",
            role="history",
            dtype="Array(Int64)",
            domain="item_id",
            of="item_id",
        ),
    ),
    domains=(
        *(DomainSpec(name=name, value_type="string") for name in sorted(ATTRIBUTES)),
        DomainSpec(name="item_id", value_type="int64"),
    ),
    history_length=10,
)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """A tenth of the items is cold in the test part."""
    home = tmp_path_factory.mktemp("synthetic")
    synthesise(SynthOptions(users=1500, items=800, events=20_000, seed=1), workspace=Workspace(home))
    source = ViewSource(
        view="items",
        side="item",
        path=str(home / "tables" / "items.parquet"),
        join_key="item_id",
        timestamp="event_timestamp",
        created=None,
        ttl=None,
        columns={name: name for name in ATTRIBUTES},
    )
    definitions = FeatureDefinitions(spec=SPEC, sources=(source,))
    options = BuildOptions(protocol=ColdItems(cold_share=0.1, validation_cold_share=0.05))
    log = home / "tables" / "interactions.parquet"
    return build_dataset(definitions, log, home / "datasets", "synthetic", options)[0]


def ranks(dataset: Dataset, scorer: Scorer) -> tuple[TargetRanks, EvaluationCases]:
    cases = EvaluationCases.from_sequences(dataset.sequences, n_items=dataset.n_items, split=Split.TEST)
    return rank_targets(scorer, cases, seed=0), cases


def test_content_finds_what_popularity_does_not(dataset: Dataset) -> None:
    data = TrainingData.from_dataset(dataset)
    content, cases = ranks(dataset, ContentKNN.fit(data))
    popular, _ = ranks(dataset, Popularity.fit(data.sequences, n_items=data.n_items))
    assert len(cases) > 1000
    hits = [float(np.mean(found.excluded <= 20)) for found in (content, popular)]
    assert hits[0] > 1.5 * hits[1] > 0.04


def test_items_that_nobody_has_chosen_yet_are_found_by_their_attributes(dataset: Dataset) -> None:
    content, cases = ranks(dataset, ContentKNN.fit(TrainingData.from_dataset(dataset)))
    assert cases.cold.sum() > 50
    among_cold = content.among_cold[cases.cold] / content.n_among_cold[cases.cold]
    assert np.mean(among_cold) < 0.3  # 0.5 by chance
