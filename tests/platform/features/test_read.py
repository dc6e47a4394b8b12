"""What a feature service means to the model, from Feast objects as `feast apply` would see them."""

from datetime import timedelta
from typing import Any

import pytest
from feast import Entity, FeatureService, FeatureView, Field, FileSource, ValueType
from feast.types import Array, Bool, Bytes, Float32, Int64, String, UnixTimestamp

from rf_platform.errors import ConfigError, NotFoundError
from rf_platform.features.read import FeatureDefinitions, parse_definitions
from rf_platform.features.spec import FeatureSpec, SemanticSpec

USER = Entity(name="user", join_keys=["user_id"], value_type=ValueType.INT64)
ITEM = Entity(name="item", join_keys=["item_id"], value_type=ValueType.STRING)


def view(name: str, entity: Entity, *fields: Field, **kwargs: Any) -> FeatureView:
    source = FileSource(
        name=f"{name}_source", path=f"/data/{name}.parquet", timestamp_field="ts", **kwargs.pop("source", {})
    )
    return FeatureView(name=name, entities=[entity], schema=list(fields), source=source, **kwargs)


def parse(*views: FeatureView) -> FeatureDefinitions:
    service = FeatureService(name="retrieval", features=list(views))
    return parse_definitions("p", [USER, ITEM], list(views), [service], "retrieval")


def field(name: str, dtype: Any, **tags: str) -> Field:
    return Field(name=name, dtype=dtype, tags=tags)


@pytest.mark.parametrize(
    ("dtype", "kind"),
    [
        (String, "categorical"),
        (Int64, "categorical"),
        (Bool, "categorical"),
        (Float32, "numeric"),
        (UnixTimestamp, "timestamp"),
        (Array(String), "multi"),
        (Array(Int64), "multi"),
        (Array(Float32), "vector"),
    ],
)
def test_kind_follows_dtype(dtype: Any, kind: str) -> None:
    spec = parse(view("v", ITEM, field("f", dtype))).spec
    assert spec.field("v__f").kind == kind
    assert (spec.field("v__f").domain == "v__f") == (kind in ("categorical", "multi"))


def test_tags_override() -> None:
    spec = parse(
        view(
            "v",
            ITEM,
            field("n", Int64, kind="numeric"),
            field("g", Array(String), domain="genre", vocabulary="hash:100"),
        ),
        view("p", USER, field("g", String, domain="genre")),
    ).spec
    assert spec.field("v__n").kind == "numeric"
    assert [f.name for f in spec.fields if f.domain == "genre"] == ["p__g", "v__g"]
    assert spec.domain("genre").policy == "hash:100"  # said once, meant for the whole domain
    assert spec.item.id_type == "string"
    assert spec.user.id_type == "int64"


def test_texts_are_features_of_items_alone() -> None:
    spec = parse(view("v", ITEM, field("title", String, kind="text"))).spec
    assert (spec.field("v__title").kind, spec.field("v__title").domain) == ("text", None)
    with pytest.raises(ConfigError, match=r"p\.bio has kind=text and belongs to 'user'"):
        parse(view("p", USER, field("bio", String, kind="text")))
    with pytest.raises(
        ConfigError, match=r"v\.n has the tag kind='text'; allowed for dtype Int64: categorical, numeric"
    ):
        parse(view("v", ITEM, field("n", Int64, kind="text")))
    with pytest.raises(ConfigError, match=r"v\.t has the tag domain='x', but a text feature has no embedding table"):
        parse(view("v", ITEM, field("t", String, kind="text", domain="x")))


def test_a_service_asks_for_semantic_ids() -> None:
    one = view("v", ITEM, field("x", Array(Float32)), field("g", String, domain="semantic_id_2"))

    def tagged(**tags: str) -> FeatureSpec:
        service = FeatureService(name="retrieval", features=[one], tags=tags)
        return parse_definitions("p", [USER, ITEM], [one], [service], "retrieval").spec

    assert tagged(team="search").semantic is None
    assert tagged(semantic_ids="1x8").semantic == SemanticSpec(levels=1, codes=8)
    assert [d.name for d in tagged(semantic_ids="1x8").embedding_domains] == [
        "semantic_id_2",
        "semantic_id_1",
        "item_id",
    ]
    with pytest.raises(ConfigError, match=r"v\.g has the domain 'semantic_id_2', which is that of the semantic ids"):
        tagged(semantic_ids="2x8")
    with pytest.raises(ConfigError, match=r"'retrieval' has the tag semantic_ids='many'; write LEVELSxCODES"):
        tagged(semantic_ids="many")
    with pytest.raises(ConfigError, match=r"unknown tag 'semantic_id'; did you mean 'semantic_ids'"):
        tagged(semantic_id="2x8")


def test_history_fields_become_context() -> None:
    spec = parse(
        view(
            "h",
            USER,
            field("items", Array(String), role="history", of="item_id"),
            field("times", Array(UnixTimestamp), role="history", of="event_timestamp"),
            field("ratings", Array(Float32), role="history", of="rating"),
            tags={"history_length": "7"},
        )
    ).spec
    assert spec.history_length == 7
    assert spec.history_items is not None
    assert spec.history_items.name == "h__items"
    assert {f.name: f.kind for f in spec.inputs("context")} == {"h__times": "timestamp", "h__ratings": "numeric"}


def history(name: str, column: str, **tags: str) -> FeatureView:
    return view(name, USER, field("f", Array(Int64), role="history", of=column), tags=tags)


def test_history_views_of_a_service_have_one_length() -> None:
    assert parse(history("a", "x", history_length="9"), history("b", "y")).spec.history_length == 9
    assert parse(history("a", "x"), history("b", "y")).spec.history_length == 50
    with pytest.raises(ConfigError, match=r"history_length.*a: 3, b: 9"):
        parse(history("a", "x", history_length="3"), history("b", "y", history_length="9"))


def test_source_follows_the_definition() -> None:
    definitions = parse(
        view(
            "v",
            ITEM,
            field("price", Float32),
            ttl=timedelta(days=3),
            source={"created_timestamp_column": "created", "field_mapping": {"p": "price", "id": "item_id"}},
        )
    )
    (source,) = definitions.sources
    assert (source.path, source.join_key, source.timestamp, source.created) == (
        "/data/v.parquet",
        "id",
        "ts",
        "created",
    )
    assert source.ttl == timedelta(days=3)
    assert source.columns == {"price": "p"}


def test_display_label_and_ignore_are_not_inputs() -> None:
    spec = parse(
        view(
            "v",
            ITEM,
            field("title", String, role="display"),
            field("sold", Int64, role="label"),
            field("blob", Bytes, role="ignore"),
            field("brand", String),
        )
    ).spec
    assert [f.field for f in spec.inputs("item")] == ["brand"]
    assert [f.field for f in spec.carried("item")] == ["brand", "sold", "title"]


def test_hash_does_not_depend_on_the_order_of_definitions() -> None:
    a, b = field("a", String), field("b", Float32)
    v, w = view("v", ITEM, a, b), view("w", USER, a)
    assert parse(v, w).spec.hash == parse(w, view("v", ITEM, b, a)).spec.hash
    assert parse(v).spec.hash != parse(v, w).spec.hash


def test_spec_survives_json() -> None:
    spec = parse(view("v", ITEM, field("a", String, domain="d", vocabulary="hash:9"))).spec
    again = FeatureSpec.from_dict(spec.to_dict())
    assert again == spec
    assert again.hash == spec.hash


@pytest.mark.parametrize(
    ("views", "parts"),
    [
        ([view("v", ITEM, field("f", Bytes))], ("v.f", "Bytes", "role=ignore")),
        ([view("v", ITEM, field("f", Array(Bool)))], ("v.f", "Array(Bool)")),
        ([view("v", ITEM, field("f", String, kind="numeric"))], ("v.f", "kind='numeric'", "String")),
        ([view("v", ITEM, field("f", Float32, domain="d"))], ("v.f", "domain='d'", "numeric")),
        ([view("v", ITEM, field("f", String, vocabulary="hash:x"))], ("v.f", "hash:x", "hash:65536")),
        ([view("v", ITEM, field("f", String, vocabulry="hash:9"))], ("v.f", "vocabulry", "vocabulary")),
        ([view("v", ITEM, field("f", String, role="histroy"))], ("v.f", "histroy", "history")),
        ([view("v", ITEM, field("f", String, of="x"))], ("v.f", "of='x'")),
        ([view("v", ITEM, field("f", String, domain="a/b"))], ("v.f", "a/b")),
        ([view("v", USER, field("f", Array(String), role="history"))], ("v.f", "'of'")),
        ([view("v", USER, field("f", String, role="history", of="x"))], ("v.f", "String", "array")),
        (
            [view("v", USER, field("f", Array(String), role="history", of="x"), field("g", String))],
            ("'v'", "mixes history"),
        ),
        (
            [
                view(
                    "v",
                    ITEM,
                    field("f", String, domain="d", vocabulary="hash:8"),
                    field("g", String, domain="d", vocabulary="learned"),
                )
            ],
            ("v.f", "v.g", "'d'", "hash:8", "learned"),
        ),
        (
            [view("v", ITEM, field("f", String, domain="d")), view("w", USER, field("f", Int64, domain="d"))],
            ("v.f", "w.f", "'d'", "string", "int64"),
        ),
        (
            [view("v", USER, field("f", Array(String), role="history", of="x"), tags={"history_length": "0"})],
            ("'v'", "history_length"),
        ),
    ],
)
def test_refused_definitions_name_view_and_field(views: list[FeatureView], parts: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(*views)
    for part in parts:
        assert part in str(caught.value)


def test_unknown_service_names_the_known_ones() -> None:
    service = FeatureService(name="other", features=[])
    with pytest.raises(NotFoundError, match=r"'retrieval'.*has: other"):
        parse_definitions("p", [USER, ITEM], [], [service], "retrieval")


def test_a_view_over_both_entities_is_refused() -> None:
    both = FeatureView(
        name="both",
        entities=[USER, ITEM],
        schema=[field("f", String)],
        source=FileSource(name="s", path="/data/both.parquet", timestamp_field="ts"),
    )
    with pytest.raises(ConfigError, match=r"'both'.*exactly one"):
        parse(both)
