"""Feature definitions of the catalog that `rf data synth` makes."""

import os

from feast import Entity, FeatureService, FeatureView, Field, FileSource, ValueType
from feast.types import Array, Float32, Int64, String, UnixTimestamp

# Every `rf` command sets RF_TABLES to the tables of its workspace.
TABLES = os.environ.get("RF_TABLES", "../../.rf/tables")

user = Entity(name="user", join_keys=["user_id"], value_type=ValueType.INT64, description="A made-up customer.")
item = Entity(name="item", join_keys=["item_id"], value_type=ValueType.INT64, description="A made-up product.")

item_attributes = FeatureView(
    name="item_attributes",
    entities=[item],
    source=FileSource(name="items", path=f"{TABLES}/items.parquet", timestamp_field="event_timestamp"),
    schema=[
        Field(name="title", dtype=String, tags={"role": "display"}),
        Field(name="category", dtype=String),
        Field(name="brand", dtype=String),
        Field(name="tags", dtype=Array(String)),
        Field(name="price", dtype=Float32),
    ],
    online=True,
)

user_profile = FeatureView(
    name="user_profile",
    entities=[user],
    source=FileSource(name="users", path=f"{TABLES}/users.parquet", timestamp_field="event_timestamp"),
    schema=[
        Field(name="segment", dtype=String),
        Field(name="age_group", dtype=String),
        Field(name="country", dtype=String),
    ],
    online=True,
)

# Written by `rf data synth --browsing`: a state that changes with every event. Its embeddings are those of the items' category.
browsing = FeatureView(
    name="browsing",
    entities=[user],
    source=FileSource(name="browsing", path=f"{TABLES}/browsing.parquet", timestamp_field="event_timestamp"),
    schema=[Field(name="opened", dtype=String, tags={"domain": "item_attributes__category"})],
    online=True,
)

# Written by `rf features materialize` from the interaction log: one row per user with the latest interactions as
# aligned arrays, oldest first. A field keeps the log's column named by its tag `of`.
interaction_context = FeatureView(
    name="interaction_context",
    entities=[user],
    source=FileSource(name="user_history", path=f"{TABLES}/user_history.parquet", timestamp_field="event_timestamp"),
    schema=[
        Field(name="item_ids", dtype=Array(Int64), tags={"role": "history", "of": "item_id"}),
        Field(name="timestamps", dtype=Array(UnixTimestamp), tags={"role": "history", "of": "event_timestamp"}),
        Field(name="event_types", dtype=Array(String), tags={"role": "history", "of": "event_type"}),
        Field(name="hours", dtype=Array(Int64), tags={"role": "history", "of": "hour"}),
        Field(name="weekdays", dtype=Array(Int64), tags={"role": "history", "of": "weekday"}),
    ],
    online=True,
    tags={"history_length": "50"},
)

# What the model is trained on and what the server reads; RF_FEATURE_SERVICE chooses another service.
retrieval = FeatureService(name="retrieval", features=[item_attributes, user_profile, interaction_context])
with_browsing = FeatureService(name="browsing", features=[item_attributes, user_profile, browsing, interaction_context])
