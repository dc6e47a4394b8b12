"""A text, an id or a number means the same in an import, an upsert, an event, a filter and a session."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rf_platform.data.adapters import Request
from rf_platform.data.event_log import EventWindow
from rf_platform.data.importer import OnError, import_tables
from rf_platform.errors import UsageError
from rf_platform.features.dtype import Dtype
from rf_platform.features.field_rule import FieldRule
from rf_platform.features.spec import EntitySpec, FeatureSpec, FieldSpec
from rf_platform.text import BLANKS
from rf_platform.workspace import Workspace
from rf_protos.v1.features_pb2 import FeatureValue, StringList
from rf_protos.v1.feedback_pb2 import Event
from rf_protos.v1.filter_pb2 import Filter, Predicate
from rf_serving.catalog.item_schema import ItemSchema
from rf_serving.events.reader import Columns, EventReader
from rf_serving.search import FilterReader
from rf_serving.search.condition import Condition
from rf_serving.wire.ids import parse_id
from rf_serving.wire.values import plain_value

TEXTS = [
    "Acme",
    " Acme",
    "ACME ",
    "acme",
    "a b  c",
    "tab\tinside",
    "é",
    "e\u0301",
    "007",
    "1.0",
    "true",
    "NaN",
    "日本語",
    "'",
    '"q"',
]
TEXTS += [f"{blank}x{number}{blank}" for number, blank in enumerate(BLANKS)]
IDS = [text.replace("cme", f"cme{number}") for number, text in enumerate(TEXTS)]
NOW = datetime(2025, 1, 1, tzinfo=UTC)
MAPPING = """
name: shop
interactions:
  file: events.parquet
  user: {column: user, type: string}
  item: {column: item, type: string}
  timestamp: at
  rating: {column: stars, min: 0, max: 5}
  context: {shelf: {column: shelf, type: string}}
items:
  file: items.parquet
  item: {column: item, type: string}
  attributes: {brand: {column: brand, type: string}, tags: {column: tags, type: strings}}
"""
SPEC = FeatureSpec(
    service="s",
    user=EntitySpec(name="user", join_key="user_id", id_type="string"),
    item=EntitySpec(name="item", join_key="item_id", id_type="string"),
    fields=(
        FieldSpec(view="i", field="brand", side="item", kind="categorical", role="feature", dtype="String", domain="b"),
        FieldSpec(view="i", field="tags", side="item", kind="multi", role="feature", dtype="Array(String)", domain="t"),
    ),
    domains=(),
    history_length=5,
)


def one(texts: list[str]) -> FeatureValue:
    return FeatureValue(string_list=StringList(values=texts))


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tables of an import of all texts, as ids and as values."""
    inbox = tmp_path_factory.mktemp("inbox")
    events = {
        "user": IDS,
        "item": IDS,
        "at": pa.array([NOW] * len(IDS), pa.timestamp("us", tz="UTC")),
        "stars": [4.0] * len(IDS),
        "shelf": TEXTS,
    }
    pq.write_table(pa.table(events), inbox / "events.parquet")
    items = {"item": IDS, "brand": TEXTS, "tags": [[text, "", text] for text in TEXTS]}
    pq.write_table(pa.table(items), inbox / "items.parquet")
    (inbox / "mapping.yaml").write_text(MAPPING)
    workspace = Workspace(inbox / "home")
    import_tables(
        Request(source="custom", path=None, mapping=inbox / "mapping.yaml"),
        workspace=workspace,
        on_error=OnError("fail"),
        replace=False,
        threads=None,
        now=NOW,
    )
    return workspace.tables


def column(tables: Path, table: str, name: str) -> list[Any]:
    found = pq.read_table(tables / f"{table}.parquet")
    order = found["input_order"].to_pylist() if "input_order" in found.column_names else range(found.num_rows)
    return [value for _, value in sorted(zip(order, found[name].to_pylist(), strict=True), key=lambda pair: pair[0])]


def test_texts(imported: Path) -> None:
    reader = EventReader(SPEC, Columns.of(SPEC, imported / "interactions.parquet"), EventWindow(clock=NOW.timestamp))
    schema, filters = ItemSchema(SPEC, {}), FilterReader(SPEC)
    items = {row["item_id"]: row for row in pq.read_table(imported / "items.parquet").to_pylist()}
    ids, shelves = column(imported, "interactions", "item_id"), column(imported, "interactions", "shelf")
    for text, item_id, shelf in zip(TEXTS, ids, shelves, strict=True):
        brand, tags = items[item_id]["brand"], items[item_id]["tags"]
        given = FeatureValue(string_value=text)
        assert brand == shelf
        assert plain_value(given, FieldRule(dtype=Dtype.of("String"))) == brand  # a session's profile
        item = schema.read({"i__brand": given, "i__tags": one([text, "", text])}, "")
        assert item == {"i__brand": brand, "i__tags": tags}
        event = Event(
            event_id="e", user_id="u", item_id="i", timestamp_us=round(NOW.timestamp() * 1e6), values={"shelf": given}
        )
        assert reader.read(event).values["shelf"] == shelf
        asked = Filter(where=[Predicate(feature="i__brand", operator=Predicate.ANY_OF, value=given)])
        ((condition),) = filters.read(asked).where
        assert isinstance(condition, Condition)
        assert condition.values == (brand,)


def test_ids(imported: Path) -> None:
    reader = EventReader(SPEC, Columns.of(SPEC, imported / "interactions.parquet"), EventWindow(clock=NOW.timestamp))
    for text, user in zip(IDS, column(imported, "interactions", "user_id"), strict=True):
        assert parse_id(text, "string", "user_id") == user
        event = Event(event_id="e", user_id=text, item_id=text, timestamp_us=round(NOW.timestamp() * 1e6))
        assert (reader.read(event).user_id, reader.read(event).item_id) == (user, user)
        assert FilterReader(SPEC).read(Filter(allow_items=[text], deny_items=[text])).deny == (user,)


@pytest.mark.parametrize(("stars", "fits"), [(0.0, True), (5.0, True), (5.5, False), (-1.0, False), (1e30, False)])
def test_ranges(imported: Path, stars: float, fits: bool) -> None:
    """What an import would refuse by the mapping's range, an event is refused for, too."""
    assert json.loads((imported / "import.json").read_text())["bounds"] == {"rating": [0.0, 5.0]}
    reader = EventReader(SPEC, Columns.of(SPEC, imported / "interactions.parquet"), EventWindow(clock=NOW.timestamp))
    event = Event(event_id="e", user_id="u", item_id="i", timestamp_us=round(NOW.timestamp() * 1e6))
    event.values["rating"].double_value = stars
    if fits:
        assert reader.read(event).values["rating"] == stars
        return
    with pytest.raises(UsageError, match=r'^values\["rating"\]: .* is out of range: expected at'):
        reader.read(event)
