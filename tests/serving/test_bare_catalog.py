"""A catalog with string ids and nothing but item attributes: no profiles, no context, no titles, no clock."""

import json
import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rf_platform.features.apply import apply_definitions
from rf_platform.features.materialize import materialize
from rf_platform.features.read import read_definitions
from rf_platform.features.store import open_store
from rf_platform.registry import Registry, promote
from rf_platform.settings import Settings
from rf_protos.v1.features_pb2 import FeatureValue
from rf_protos.v1.retrieval_pb2 import Interaction, RetrieveRequest, Session

AMAZON = Path(__file__).parents[2] / "feature_repo" / "amazon"
ITEMS = 20


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Tables and features of the catalog."""
    home = tmp_path_factory.mktemp("bare")
    repository = Path(shutil.copytree(AMAZON, home / "repo", ignore=shutil.ignore_patterns("__pycache__")))
    definitions = repository / "definitions.py"
    text = definitions.read_text()
    for old, new in (
        ("ValueType.INT64", "ValueType.STRING"),
        ("import Array, Int64", "import Array, Int64, String"),
        ('Field(name="item_ids", dtype=Array(Int64)', 'Field(name="item_ids", dtype=Array(String)'),
    ):
        assert old in text
        text = text.replace(old, new)
    definitions.write_text(text)
    (home / "tables").mkdir()
    rng = np.random.default_rng(3)
    events = [(f"u{u}", f"b{i}", n) for u in range(8) for n, i in enumerate(rng.permutation(ITEMS)[:6])]
    start = datetime(2000, 1, 1, tzinfo=UTC)
    pq.write_table(
        pa.table(
            {
                "user_id": [e[0] for e in events],
                "item_id": [e[1] for e in events],
                "event_timestamp": pa.array(
                    [start + timedelta(hours=e[2]) for e in events], pa.timestamp("us", tz="UTC")
                ),
                "input_order": list(range(len(events))),
            }
        ),
        home / "tables" / "interactions.parquet",
    )
    pq.write_table(
        pa.table(
            {
                "item_id": [f"b{i}" for i in range(ITEMS)],
                "event_timestamp": pa.array([datetime(1970, 1, 1, tzinfo=UTC)] * ITEMS, pa.timestamp("us", tz="UTC")),
                "attributes": [[i % 7, 100 + i % 3] for i in range(ITEMS)],
            }
        ),
        home / "tables" / "items.parquet",
    )
    (home / "tables" / "import.json").write_text(json.dumps({"name": "bare", "time": "position"}))
    settings = Settings(home=home, feature_repo=repository)
    apply_definitions(settings)
    materialize(settings)
    return settings


@pytest.fixture(scope="module")
def stub(bare: Settings, start_server: Callable[..., Any]) -> Iterator[Any]:
    """A client of a server with an HNSW index over the catalog."""
    from rf_platform.dataset.build import build_dataset
    from rf_serving.bundle.build import IndexOptions, build_bundle
    from rf_training.model.config import ModelConfig
    from rf_training.model.retrievalformer import RetrievalFormer
    from rf_training.model.storage import save_model

    workspace = bare.workspace
    definitions = read_definitions(open_store(bare), bare.feature_service)
    dataset, _ = build_dataset(definitions, workspace.tables / "interactions.parquet", workspace.datasets, "bare")
    registry = Registry.of(bare)
    registry.record_dataset(
        name=dataset.name,
        version=1,
        path=dataset.path,
        fingerprint=dataset.fingerprint,
        spec_hash=dataset.spec.hash,
        counts={},
    )
    path = workspace.runs / "bare"
    save_model(path / "best", RetrievalFormer(ModelConfig(dim=8, max_history=5), dataset.encoder))
    (path / "metrics.json").write_text("{}")
    registry.start_run("bare", dataset=dataset.name, recipe="tiny", config={}, path=path)
    registry.finish_run("bare", {})
    promote(registry, build_bundle(registry, workspace.bundles, "bare", IndexOptions(kind="hnsw")).record.name)
    with start_server(bare) as running:
        yield running.stub


def test_users_and_sessions_are_answered(stub: Any) -> None:
    known = stub.Retrieve(RetrieveRequest(user_id="u3", k=20, exclude_seen=True, return_history=True))
    assert len(known.history) == 6
    assert len(known.items) == 14
    assert not known.cold
    session = Session(history=[Interaction(item_id=i) for i in known.history])
    assert stub.Retrieve(RetrieveRequest(session=session, k=20, exclude_seen=True)).items == known.items
    unknown = stub.Retrieve(RetrieveRequest(user_id="nobody", k=3))
    assert unknown.cold
    assert unknown.items == stub.Retrieve(RetrieveRequest(session=Session(), k=3)).items


def test_there_is_no_feature_to_give(stub: Any) -> None:
    session = Session(
        history=[Interaction(item_id="b1", context={"interaction_context__x": FeatureValue(int_value=1)})]
    )
    with pytest.raises(grpc.RpcError) as raised:
        stub.Retrieve(RetrieveRequest(session=session, k=3))
    expected = 'session.history[0].context["interaction_context__x"]: there is no such feature; known are none'
    assert raised.value.details() == expected
