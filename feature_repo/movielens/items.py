"""Features of a movie: all the item tower ever sees, so a new movie needs nothing else to be recommendable."""

from entities import item
from feast import FeatureView, Field
from feast.types import Array, Int64, String
from sources import items

item_attributes = FeatureView(
    name="item_attributes",
    entities=[item],
    source=items,
    schema=[
        Field(name="title", dtype=String, tags={"role": "display"}),
        Field(name="genres", dtype=Array(String), tags={"domain": "genre"}),
        Field(name="release_year", dtype=Int64, tags={"domain": "year"}),
        Field(name="title_words", dtype=Array(String), tags={"domain": "word"}),
    ],
    online=True,
)

# Titles as a sentence encoder reads them (docs/text.md); of the service `retrieval_text` only.
item_text = FeatureView(
    name="item_text",
    entities=[item],
    source=items,
    schema=[Field(name="title", dtype=String, tags={"kind": "text"})],
    online=False,
)
