"""How and when a user interacted: the recent history as aligned arrays, oldest first.

A field with ``role=history`` is one column of the interaction log (tag ``of``), kept for the last ``history_length``
interactions of a user. Offline, training reads the log itself, always up to the interaction before the one predicted.
"""

from entities import user
from feast import FeatureView, Field
from feast.types import Array, Float32, Int64, String, UnixTimestamp
from sources import user_history

interaction_context = FeatureView(
    name="interaction_context",
    entities=[user],
    source=user_history,
    schema=[
        Field(name="item_ids", dtype=Array(Int64), tags={"role": "history", "of": "item_id"}),
        Field(name="timestamps", dtype=Array(UnixTimestamp), tags={"role": "history", "of": "event_timestamp"}),
        Field(name="event_types", dtype=Array(String), tags={"role": "history", "of": "event_type"}),
        Field(name="ratings", dtype=Array(Float32), tags={"role": "history", "of": "rating"}),
        Field(name="hours", dtype=Array(Int64), tags={"role": "history", "of": "hour"}),
        Field(name="weekdays", dtype=Array(Int64), tags={"role": "history", "of": "weekday"}),
    ],
    online=True,
    tags={"history_length": "50"},
)
