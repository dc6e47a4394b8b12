"""Which changes of the feature definitions a model bears: those of what it does not read, and all additions."""

from collections.abc import Callable
from typing import Any

import pytest
from feast import Entity, FeatureService, FeatureView, Field, FileSource, ValueType
from feast.types import Array, Bytes, Float32, Float64, Int64, String, UnixTimestamp

from rf_platform.features.read import parse_definitions
from rf_platform.features.spec import FeatureSpec
from rf_platform.features.spec_fit import SpecFit

Views = dict[str, dict[str, Field]]


def field(name: str, dtype: Any, **tags: str) -> Field:
    return Field(name=name, dtype=dtype, tags=tags)


def fields(*given: Field) -> dict[str, Field]:
    return {f.name: f for f in given}


class Definitions:
    """Definitions of a shop, as a team edits them."""

    def __init__(self) -> None:
        self.service, self.length = "retrieval", 50
        self.ids = {"user": ValueType.INT64, "item": ValueType.STRING}
        self.keys = {"user": "user_id", "item": "item_id"}
        self.item: Views = {
            "things": fields(
                field("genres", Array(String), domain="genre"),
                field("price", Float32),
                field("brand", String),
                field("title", String, role="display"),
                field("sold", Int64, role="label"),
                field("blob", Bytes, role="ignore"),
            )
        }
        self.user: Views = {
            "people": fields(
                field("favourite", String, domain="genre"),
                field("age", Int64),
                field("name", String, role="display"),
                field("spent", Float64, role="label"),
            ),
            "recent": fields(
                field("items", Array(String), role="history", of="item_id"),
                field("times", Array(UnixTimestamp), role="history", of="event_timestamp"),
                field("stars", Array(Float32), role="history", of="rating"),
            ),
        }

    @property
    def spec(self) -> FeatureSpec:
        entities = {
            side: Entity(name=side, join_keys=[self.keys[side]], value_type=self.ids[side]) for side in ("user", "item")
        }
        views = [
            FeatureView(
                name=name,
                entities=[entities[side]],
                schema=list(schema.values()),
                source=FileSource(name=name, path=f"/data/{name}.parquet", timestamp_field="ts"),
                tags={"history_length": str(self.length)} if name == "recent" else {},
            )
            for side, views in (("item", self.item), ("user", self.user))
            for name, schema in views.items()
        ]
        service = FeatureService(name=self.service, features=views)
        return parse_definitions("p", list(entities.values()), views, [service], self.service).spec


Edit = Callable[[Definitions], object]


def change(edit: Edit, max_history: int | None = None) -> SpecFit:
    definitions = Definitions()
    built = definitions.spec
    edit(definitions)
    return SpecFit.of(built, definitions.spec, max_history)


def put(side: str, view: str, *given: Field) -> Edit:
    return lambda d: getattr(d, side).setdefault(view, {}).update(fields(*given))


def drop(side: str, view: str, name: str) -> Edit:
    return lambda d: getattr(d, side)[view].pop(name)


def both(*edits: Edit) -> Edit:
    return lambda d: [edit(d) for edit in edits]


def assign(name: str, value: Any) -> Edit:
    return lambda d: setattr(d, name, value)


def test_nothing_has_changed() -> None:
    assert change(lambda d: None) == SpecFit()


@pytest.mark.parametrize(
    ("edit", "added"),
    [
        (put("item", "studio", field("label", String), field("poster", Array(Float32))), ["label", "poster"]),
        (put("item", "things", field("colour", String)), ["colour"]),
        (put("item", "things", field("subtitle", String, role="display")), ["subtitle"]),
        (put("item", "things", field("hash", Bytes, role="ignore")), []),
        (put("item", "things", field("sold", Int64)), ["sold"]),  # a label becomes a feature
        (put("item", "things", field("title", String)), ["title"]),
        (put("user", "people", field("country", String)), ["country"]),
        (put("user", "people", field("second", String, domain="genre")), ["second"]),
        (put("user", "recent", field("hours", Array(Int64), role="history", of="hour")), ["hours"]),
        (put("user", "later", field("devices", Array(String), role="history", of="device")), ["devices"]),
    ],
)
def test_additions_are_a_note(edit: Edit, added: list[str]) -> None:
    fit = change(edit)
    assert fit.unmet == ()
    assert [name.partition("__")[2] for name in fit.added] == added
    assert fit.changed == ()
    assert len(fit.notes) == bool(added)
    assert all(name in "".join(fit.notes) for name in fit.added)


@pytest.mark.parametrize(
    ("edit", "unmet"),
    [
        (drop("item", "things", "brand"), "field things__brand is gone"),
        (drop("user", "people", "age"), "field people__age is gone"),
        (drop("user", "recent", "items"), "field recent__items is gone"),
        (drop("user", "recent", "stars"), "field recent__stars is gone"),
        (
            both(drop("user", "people", "age"), put("user", "others", field("age", Int64))),
            "field people__age is gone",
        ),
        (put("item", "things", field("price", Float64)), "field things__price changed: dtype 'Float32' -> 'Float64'"),
        (
            put("item", "things", field("brand", Int64)),
            "field things__brand changed: dtype 'String' -> 'Int64'",
        ),
        (
            put("user", "people", field("age", Int64, kind="numeric")),
            "field people__age changed: kind 'categorical' -> 'numeric', domain 'people__age' -> None",
        ),
        (
            put("user", "recent", field("stars", Array(Float64), role="history", of="rating")),
            "field recent__stars changed: dtype 'Array(Float32)' -> 'Array(Float64)'",
        ),
        (
            put("user", "recent", field("stars", Array(Float32), role="history", of="dwell")),
            "field recent__stars changed: of 'rating' -> 'dwell'",
        ),
        # no longer kept up by materialisation and events, though the old arrays may lie there
        (
            put("user", "recent", field("stars", Array(Float32), role="ignore")),
            "field recent__stars changed: kind 'numeric' -> 'vector', role 'history' -> 'ignore', of 'rating' -> None",
        ),
        (
            put("item", "things", field("genres", Array(String))),
            "field things__genres changed: domain 'genre' -> 'things__genres'",
        ),
        (
            put("item", "things", field("genres", Array(String), domain="genre", vocabulary="hash:64")),
            "domain genre changed: vocabulary 'learned' -> 'hash:64'",
        ),
        (
            # a new field decides the policy of a domain that others share
            put("user", "people", field("second", String, domain="genre", vocabulary="hash:8")),
            "domain genre changed: vocabulary 'learned' -> 'hash:8'",
        ),
        (
            both(
                put("item", "things", field("genres", Array(Int64), domain="genre")),
                put("user", "people", field("favourite", Int64, domain="genre")),
            ),
            "field things__genres changed: dtype 'Array(String)' -> 'Array(Int64)'",
        ),
        (
            lambda d: d.ids.update(user=ValueType.STRING),
            "entity user changed: id_type 'int64' -> 'string'",
        ),
        (lambda d: d.keys.update(item="sku"), "entity item changed: join_key 'item_id' -> 'sku'"),
        (
            # the same field of an ignored one is enough, another type is not
            put("user", "people", field("age", String, role="ignore")),
            "field people__age changed: dtype 'Int64' -> 'String'",
        ),
        (assign("length", 49), "history_length 50 -> 49, and the model reads 50 interactions"),
    ],
)
def test_what_the_model_reads_has_to_stay(edit: Edit, unmet: str) -> None:
    fit = change(edit)
    assert unmet in fit.unmet
    assert len(fit.unmet) <= 2


@pytest.mark.parametrize(
    "edit",
    [
        drop("item", "things", "title"),
        drop("item", "things", "sold"),
        drop("item", "things", "blob"),
        drop("user", "people", "name"),
        drop("user", "people", "spent"),
        put("item", "things", field("title", Int64, role="display")),
        put("item", "things", field("sold", Float32, role="label")),
        put("user", "people", field("name", Int64, role="ignore")),
    ],
)
def test_what_the_model_does_not_read_may_go(edit: Edit) -> None:
    assert change(edit) == SpecFit()


@pytest.mark.parametrize("role", ["ignore", "display", "label"])
def test_a_feature_that_is_no_longer_given_to_models_is_still_there_for_older_ones(role: str) -> None:
    fit = change(put("user", "people", field("age", Int64, role=role)))
    assert fit == SpecFit(changed=(f"field people__age is {role} now, and still read as a feature",))
    assert fit.notes == list(fit.changed)


def test_the_name_of_the_service_is_a_note() -> None:
    assert change(assign("service", "other")) == SpecFit(changed=("feature service 'retrieval' -> 'other'",))


@pytest.mark.parametrize(
    ("length", "max_history", "fits"),
    [(51, None, True), (50, 200, True), (49, 200, False), (49, 49, True), (20, 20, True), (19, 20, False)],
)
def test_a_history_has_to_be_as_long_as_the_model_reads(length: int, max_history: int | None, fits: bool) -> None:
    fit = change(assign("length", length), max_history)
    assert (fit.unmet == ()) is fits
    assert ("history_length" in "".join(fit.changed)) is (fits and length != 50)


def test_without_a_history_its_length_does_not_matter() -> None:
    definitions = Definitions()
    del definitions.user["recent"]
    built = definitions.spec
    definitions.user["recent"] = fields(field("items", Array(String), role="history", of="item_id"))
    definitions.length = 3
    assert SpecFit.of(built, definitions.spec) == SpecFit(added=("recent__items",))
