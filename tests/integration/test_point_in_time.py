"""The generated joins give what Feast's own point-in-time join gives."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rf_platform.dataset import Dataset
from rf_platform.dataset.build import build_dataset
from rf_platform.features.apply import apply_definitions
from rf_platform.features.read import read_definitions
from rf_platform.features.store import open_store, quiet
from rf_platform.settings import Settings

CHANGING = """
from datetime import timedelta

from entities import item, user
from feast import FeatureService, FeatureView, Field, FileSource
from feast.types import Float32, Int64, String
from items import item_attributes
from sources import TABLES
from users import user_profile

item_price = FeatureView(
    name="item_price",
    entities=[item],
    ttl=timedelta(days=1),
    source=FileSource(name="price", path=f"{TABLES}/price.parquet", timestamp_field="ts", created_timestamp_column="created"),
    schema=[Field(name="price", dtype=Float32), Field(name="shelf", dtype=String)],
)
user_state = FeatureView(
    name="user_state",
    entities=[user],
    source=FileSource(name="state", path=f"{TABLES}/state.parquet", timestamp_field="ts"),
    schema=[Field(name="visits", dtype=Int64)],
)
changing = FeatureService(name="changing", features=[item_attributes, user_profile, item_price, user_state])
"""


@pytest.fixture(scope="module")
def changing(workspace: Settings) -> Settings:
    """Views whose values change while the events happen, some known late, some expiring."""
    rng = np.random.default_rng(1)
    start = datetime(2024, 1, 1, tzinfo=UTC)
    us = pa.timestamp("us", tz="UTC")

    def times(n: int, spread: int) -> list[datetime]:
        return [start + timedelta(minutes=int(m)) for m in rng.integers(0, spread, n)]

    ts = times(600, 6000)
    created = [t + timedelta(minutes=int(m)) for t, m in zip(ts, rng.choice([0, 0, 45, 900], 600), strict=True)]
    tables = workspace.workspace.tables
    pq.write_table(
        pa.table(
            {
                "item_id": rng.integers(100, 140, 600),
                "ts": pa.array(ts, us),
                "created": pa.array(created, us),
                "price": pa.array(rng.random(600), pa.float32()),
                "shelf": [f"s{i}" for i in rng.integers(0, 5, 600)],
            }
        ),
        tables / "price.parquet",
    )
    states = sorted({(int(u), t) for u, t in zip(rng.integers(1, 25, 300), times(300, 6000), strict=True)})
    pq.write_table(
        pa.table(
            {
                "user_id": [s[0] for s in states],
                "ts": pa.array([s[1] for s in states], us),
                "visits": list(range(len(states))),
            }
        ),
        tables / "state.parquet",
    )
    assert workspace.feature_repo is not None
    (workspace.feature_repo / "changing.py").write_text(CHANGING)
    settings = workspace.model_copy(update={"feature_service": "changing"})
    apply_definitions(settings)
    return settings


def build(settings: Settings, directory: Path) -> Dataset:
    definitions = read_definitions(open_store(settings), settings.feature_service)
    return build_dataset(definitions, settings.workspace.tables / "interactions.parquet", directory, "tiny")[0]


def plain(value: Any) -> Any:
    """Feast gives numpy arrays and float NaN, Arrow lists and None."""
    if isinstance(value, np.ndarray | list):
        return [plain(v) for v in value]
    return None if value is None or value is pd.NA or value != value else value


def test_every_row_equals_feasts_historical_features(changing: Settings, tmp_path: Path) -> None:
    ours = build(changing, tmp_path).enriched().to_pandas()
    store = open_store(changing)
    asked = ours[["user_id", "item_id"]].copy()
    # Feast includes the asked moment; features of an event must be older than it.
    asked["event_timestamp"] = ours["event_timestamp"] - pd.Timedelta(microseconds=1)
    asked["row"] = range(len(asked))
    with quiet():
        theirs = store.get_historical_features(
            entity_df=asked,
            features=store.get_feature_service("changing"),
            full_feature_names=True,
            filter_by_created_timestamp=True,
        ).to_df()
    theirs = theirs.sort_values("row").reset_index(drop=True)
    names = [c for c in ours.columns if "__" in c]
    assert {"item_price__price", "item_price__shelf", "user_state__visits", "item_attributes__genres"} <= set(names)
    for name in names:
        assert [plain(v) for v in ours[name]] == [plain(v) for v in theirs[name]], name
    assert 0.1 < ours["item_price__price"].isna().mean() < 0.9  # some known, some expired or not known yet


def test_versions_share_what_is_equal(changing: Settings, tmp_path: Path) -> None:
    dataset = build(changing, tmp_path)
    counts = dataset.manifest["counts"]
    assert counts["items"] == 40 < counts["item_versions"]
    assert counts["users"] == 24 < counts["user_versions"]
    # The newest version of an item is the one an online store would serve, whatever events saw.
    current = dataset.items.take(dataset.current_items)
    assert current["item_id"].to_pylist() == list(range(100, 140))


PLANTED = """
from entities import user
from feast import FeatureService, FeatureView, Field, FileSource
from feast.types import Int64
from sources import TABLES

planted = FeatureView(
    name="planted",
    entities=[user],
    source=FileSource(name="planted", path=f"{TABLES}/planted.parquet", timestamp_field="ts"),
    schema=[Field(name="answer", dtype=Int64)],
)
leaky = FeatureService(name="leaky", features=[planted])
"""


def test_a_planted_future_value_never_reaches_an_event(workspace: Settings, tmp_path: Path) -> None:
    """Every interaction is announced by a feature row at its very time; seeing that row would be seeing the answer."""
    tables = workspace.workspace.tables
    log = pq.read_table(tables / "interactions.parquet")
    pq.write_table(
        pa.table({"user_id": log["user_id"], "ts": log["event_timestamp"], "answer": log["item_id"]}),
        tables / "planted.parquet",
    )
    assert workspace.feature_repo is not None
    (workspace.feature_repo / "planted.py").write_text(PLANTED)
    settings = workspace.model_copy(update={"feature_service": "leaky"})
    apply_definitions(settings)
    rows = build(settings, tmp_path).enriched().to_pandas()
    previous = rows.groupby("user_id")["item_id"].shift(1)
    assert [plain(v) for v in rows["planted__answer"]] == [plain(v) for v in previous]
    assert (rows["planted__answer"] == rows["item_id"]).sum() == 0
