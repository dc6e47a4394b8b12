"""Sources of feature values: the tables that `rf data import` wrote (RF_TABLES is set by every `rf` command)."""

import os

from feast import FileSource

TABLES = os.environ.get("RF_TABLES", "../../.rf/tables")

items = FileSource(name="items", path=f"{TABLES}/items.parquet", timestamp_field="event_timestamp")
users = FileSource(name="users", path=f"{TABLES}/users.parquet", timestamp_field="event_timestamp")

# Written by `rf features materialize` from the interaction log: one row per user with the latest interactions as arrays.
user_history = FileSource(name="user_history", path=f"{TABLES}/user_history.parquet", timestamp_field="event_timestamp")
