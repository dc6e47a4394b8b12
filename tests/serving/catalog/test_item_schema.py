"""Items as plain values, JSON, protobuf and Arrow."""

from dataclasses import replace
from datetime import UTC, datetime

import pyarrow as pa
import pytest

from rf_platform.errors import UsageError
from rf_platform.features.dtype import Kind
from rf_platform.features.spec import EntitySpec, FeatureSpec, FieldSpec, Role
from rf_protos.v1.features_pb2 import DoubleList, FeatureValue, StringList
from rf_serving.catalog.item_schema import ItemSchema


def field(name: str, dtype: str, kind: Kind = "numeric", role: Role = "feature") -> FieldSpec:
    return FieldSpec(view="item", field=name, side="item", kind=kind, role=role, dtype=dtype)


SPEC = FeatureSpec(
    service="retrieval",
    user=EntitySpec(name="user", join_key="user_id", id_type="int64"),
    item=EntitySpec(name="item", join_key="item_id", id_type="int64"),
    fields=(
        field("added", "UnixTimestamp", "timestamp"),
        field("genres", "Array(String)", "multi"),
        field("new", "Bool", "categorical"),
        field("price", "Float32"),
        field("sold", "Int64", role="label"),
        field("text", "Array(Float32)", "vector"),
        field("title", "String", "categorical", role="display"),
    ),
    domains=(),
    history_length=5,
)
SCHEMA = ItemSchema(SPEC, {"item__text": 2})
GIVEN = {
    "item__added": FeatureValue(int_value=1_000_000),
    "item__genres": FeatureValue(string_list=StringList(values=["b", "a"])),
    "item__new": FeatureValue(int_value=1),
    "item__price": FeatureValue(double_value=0.1),
    "item__text": FeatureValue(double_list=DoubleList(values=[0.1, 2])),
    "item__title": FeatureValue(string_value="Aß\0"),
}
TENTH = 0.10000000149011612
VALUES = {
    "item__added": 1_000_000,
    "item__genres": ["b", "a"],
    "item__new": 1,
    "item__price": TENTH,
    "item__text": [TENTH, 2.0],
    "item__title": "Aß\0",
}


def test_all_forms_hold_the_same() -> None:
    assert SCHEMA.read(GIVEN, "items[0].features") == VALUES
    text = SCHEMA.text(VALUES)
    assert text.isascii()
    assert "\0" not in text
    assert SCHEMA.parse(text) == (VALUES, [], set())
    assert SCHEMA.parse(SCHEMA.text({})) == ({}, [], set())
    assert SCHEMA.read(SCHEMA.message(VALUES), "") == VALUES
    table = SCHEMA.table([7, 8], [VALUES, {}])
    assert SCHEMA.rows(table) == [VALUES, {}]
    assert table["item_id"].to_pylist() == [7, 8]
    assert table["item__new"].to_pylist() == [True, None]
    assert table["item__added"].to_pylist() == [datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC), None]


def test_equal_items_have_equal_texts() -> None:
    same = {**dict(reversed(GIVEN.items())), "item__price": FeatureValue(double_value=TENTH)}
    assert SCHEMA.text(SCHEMA.read(same, "")) == SCHEMA.text(VALUES)
    missing = {"item__genres": FeatureValue(string_list=StringList()), "item__title": FeatureValue()}
    assert SCHEMA.read(missing, "") == {}


def test_labels_are_no_part_of_an_item() -> None:
    with pytest.raises(UsageError, match=r'items\[3\].features\["item__sold"\]: there is no such feature'):
        SCHEMA.read({"item__sold": FeatureValue(int_value=1)}, "items[3].features")


def test_a_display_field_of_a_type_without_values_in_requests_is_left_out() -> None:
    picture = FieldSpec(view="item", field="picture", side="item", kind="categorical", role="display", dtype="Bytes")
    schema = ItemSchema(replace(SPEC, fields=(*SPEC.fields, picture)), {"item__text": 2})
    assert schema.names == SCHEMA.names
    assert schema.arrow == SCHEMA.arrow


def test_a_text_from_another_spec_is_read_as_far_as_it_fits() -> None:
    other = '{"item__gone":1,"item__title":5.5,"item__genres":["a",{}],"item__text":[1.0],"item__price":2,"item__added":true}'
    misfits = ["item__title", "item__genres", "item__text"]
    assert SCHEMA.parse(other) == ({"item__price": 2.0, "item__added": 1}, misfits, {"item__new"})


def test_a_bundles_table_may_lack_columns_and_have_other_types() -> None:
    table = pa.table(
        {"item_id": [1, 2], "item__price": [0.1, float("nan")], "item__genres": [["a", None], []], "x": [1, 2]}
    )
    assert SCHEMA.rows(SCHEMA.cast(table)) == [{"item__price": TENTH, "item__genres": ["a"]}, {}]
