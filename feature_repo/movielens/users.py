"""Features of a user that are known before any interaction."""

from entities import user
from feast import FeatureView, Field
from feast.types import Int64, String
from sources import users

user_profile = FeatureView(
    name="user_profile",
    entities=[user],
    source=users,
    schema=[
        Field(name="gender", dtype=String),
        Field(name="age_group", dtype=Int64),
        Field(name="occupation", dtype=String),
        Field(name="zip_area", dtype=String),
    ],
    online=True,
)
