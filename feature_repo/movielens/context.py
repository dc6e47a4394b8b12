"""Context of a user's interactions: the recent history as aligned arrays, oldest first.

A field with ``role=history`` is one column of the interaction log (tag ``of``), kept for the last ``history_length``
interactions of a user. Offline, training reads the log itself, always up to the interaction before the one predicted.
"""

from entities import user
from feast import FeatureView, Field
from feast.types import Array, Float32, Int64, String, UnixTimestamp
from sources import user_history

# What an event means, by its type: the first rule that it matches counts, and all others are wanted. A film that a page showed or
# its visitor turned down is not recommended again, and is no wish. Every rating counts as one, whatever its stars, as it does in
# published results on this data; where one star is to mean "no", add a rule: {field: rating, below: 3, is: unwanted}
MEANINGS = """
- {type: [dislike, not_interested, hide, skip], is: unwanted}
- {type: impression, is: seen}
"""

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
    tags={"history_length": "50", "meanings": MEANINGS},
)
