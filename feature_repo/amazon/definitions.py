"""Feature definitions of the Amazon review sets: anonymous attributes (categories and brand), no profiles, no ratings."""

import os

from feast import Entity, FeatureService, FeatureView, Field, FileSource, ValueType
from feast.types import Array, Int64

TABLES = os.environ.get("RF_TABLES", "../../.rf/tables")

user = Entity(name="user", join_keys=["user_id"], value_type=ValueType.INT64, description="A reviewer.")
item = Entity(name="item", join_keys=["item_id"], value_type=ValueType.INT64, description="A product.")

item_attributes = FeatureView(
    name="item_attributes",
    entities=[item],
    source=FileSource(name="items", path=f"{TABLES}/items.parquet", timestamp_field="event_timestamp"),
    schema=[Field(name="attributes", dtype=Array(Int64), tags={"domain": "attribute"})],
    online=True,
)

# Written by `rf features materialize` from the interaction log. These sets carry an order but no clock: no time features.
interaction_context = FeatureView(
    name="interaction_context",
    entities=[user],
    source=FileSource(name="user_history", path=f"{TABLES}/user_history.parquet", timestamp_field="event_timestamp"),
    schema=[Field(name="item_ids", dtype=Array(Int64), tags={"role": "history", "of": "item_id"})],
    online=True,
    tags={"history_length": "50"},
)

retrieval = FeatureService(name="retrieval", features=[item_attributes, interaction_context])
