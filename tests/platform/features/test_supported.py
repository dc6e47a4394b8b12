"""What Feast accepts is honoured or refused by name, never ignored."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from feast import BatchFeatureView, Entity, FeatureService, FeatureView, Field, FileSource, PushSource, ValueType
from feast.data_format import DeltaFormat
from feast.infra.offline_stores.contrib.spark_offline_store.spark_source import SparkSource
from feast.types import Array, Int64, String

from rf_platform.errors import ConfigError
from rf_platform.features.read import FeatureDefinitions, parse_definitions
from rf_platform.features.supported import check_tables

pytestmark = pytest.mark.filterwarnings("ignore:.*(alpha|experimental).*:RuntimeWarning")
USER = Entity(name="user", join_keys=["user_id"], value_type=ValueType.INT64)
ITEM = Entity(name="item", join_keys=["item_id"], value_type=ValueType.INT64)
FIELDS = [Field(name="a", dtype=String), Field(name="b", dtype=Int64)]
HISTORY = [Field(name="items", dtype=Array(Int64), tags={"role": "history", "of": "item_id"})]


def source(**more: Any) -> FileSource:
    return FileSource(name="s", path="/data/s.parquet", timestamp_field="ts", **more)


def view(name: str = "v", entity: Entity = ITEM, **more: Any) -> FeatureView:
    return FeatureView(name=name, entities=[entity], **{"schema": FIELDS, "source": source(), **more})


def parse(*taken: Any, user: Entity = USER, views: list[Any] | None = None) -> FeatureDefinitions:
    service = FeatureService(name="retrieval", features=list(taken))
    return parse_definitions("p", [user, ITEM], views or list(taken), [service], "retrieval")


def names(definitions: FeatureDefinitions) -> list[str]:
    return [f.name for f in definitions.spec.fields]


def test_a_view_that_is_named_twice_counts_once() -> None:
    v = view()
    once = parse(v)
    assert parse(v, v, views=[v]) == once
    assert parse(v[["a"]], v[["b"]], views=[v]) == once
    assert names(once) == ["v__a", "v__b"]


def test_some_fields_of_a_view() -> None:
    v = view()
    definitions = parse(v[["b"]], views=[v])
    assert names(definitions) == ["v__b"]
    assert definitions.sources[0].columns == {"b": "b"}


def test_items_need_no_online_store() -> None:
    assert [s.online for s in parse(view(online=False)).sources] == [False]
    assert [s.online for s in parse(view()).sources] == [True]


def test_a_push_source_is_trained_on_by_its_batch_source() -> None:
    pushed = view(source=PushSource(name="p", batch_source=source()))
    assert parse(pushed).sources == parse(view()).sources


def test_a_batch_view_without_a_transformation_is_a_view() -> None:
    batch = BatchFeatureView(name="v", entities=[ITEM], schema=FIELDS, source=source(), online=True)
    assert parse(batch).sources == parse(view()).sources


def disabled() -> FeatureView:
    v = view()
    v.enabled = False
    return v


def versioned() -> FeatureView:
    return view(version="v2")


@pytest.mark.parametrize(
    ("taken", "parts"),
    [
        (lambda: view().with_join_key_map({"item_id": "parent_id"}), ("'v'", "item_id -> parent_id", "upstream")),
        (lambda: view().with_name("parent"), ("'v'", "with_name('parent')", "define a view")),
        (versioned, ("'v'", "version 2")),
        (disabled, ("'v'", "enabled=False")),
        (lambda: view("RF_seen"), ("'RF_seen'", "rename the view")),
        (lambda: view(entity=USER, online=False), ("'v'", "online=False", "online=True")),
        (lambda: view(entity=USER, schema=HISTORY, ttl=timedelta(days=9)), ("'v'", "ttl 9 days", "history_length")),
        (lambda: view(entity=USER, schema=HISTORY, online=False), ("'v'", "online=False")),
        (lambda: view(ttl=timedelta(days=-1)), ("'v'", "ttl -1 day", "positive")),
        (
            lambda: view(source=SparkSource(name="s", path="/data", file_format="parquet", timestamp_field="ts")),
            ("'v'", "SparkSource", "FileSource"),
        ),
        (lambda: view(source=source(file_format=DeltaFormat())), ("'v'", "DeltaFormat", "Parquet")),
        (lambda: view(source=source(s3_endpoint_override="http://s3")), ("'v'", "s3_endpoint_override='http://s3'")),
        (lambda: view(source=None), ("'v'", "no batch source")),
        (lambda: view(source=view("u"), sink_source=source()), ("'v'", "upstream")),
        (
            lambda: BatchFeatureView(
                name="v",
                entities=[ITEM],
                schema=FIELDS,
                source=source(),
                online=True,
                mode="pandas",
                udf=lambda d: d,
                udf_string="x",
            ),
            ("'v'", "transformation", "upstream"),
        ),
        (lambda: FeatureView(name="v", schema=FIELDS, source=source()), ("'v'", "exactly one")),
        (lambda: view(schema=[Field(name="a", dtype=String), Field(name="A", dtype=String)]), ("v.a", "v.A", "rename")),
    ],
)  # fmt: skip
def test_what_is_not_honoured_is_refused(taken: Callable[[], Any], parts: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(taken())
    for part in parts:
        assert part in str(caught.value)


def test_full_names_that_cannot_be_told_apart() -> None:
    one = view("a", schema=[Field(name="b__c", dtype=String)])
    two = view("a__b", schema=[Field(name="c", dtype=String)])
    with pytest.raises(ConfigError, match=r"a\.b__c and a__b\.c"):
        parse(one, two)


def test_one_join_key_for_users_and_items() -> None:
    user = Entity(name="user", join_keys=["item_id"], value_type=ValueType.INT64)
    with pytest.raises(ConfigError, match="same join key 'item_id'"):
        parse(view(), user=user)


def test_tables_that_postgresql_cannot_have() -> None:
    long = "v" * 60
    check_tables("sqlite", "p", ["a%b", f"{long}1", f"{long}2"])
    check_tables("postgres", "p", [f"{long}1", "v"])
    with pytest.raises(ConfigError, match=r"'a%b'.*rename"):
        check_tables("postgres", "p", ["a%b"])
    with pytest.raises(ConfigError, match=r"v1' and 'v+2'.*63 bytes"):
        check_tables("postgres", "pp", [f"{long}1", f"{long}2"])


@pytest.mark.parametrize(
    "name", ["item-stats", "item.stats", "item stats", "Größe", 'a "b"', "select", "a%s", "a/b", "a'b"]
)
def test_any_name_has_a_domain_that_files_and_modules_can_have(name: str) -> None:
    fields = [Field(name="a", dtype=String), Field(name=name, dtype=String)]
    domains = [d.name for d in parse(view(name, schema=fields), view("other", schema=fields)).spec.domains]
    assert len(set(domains)) == 4
    assert all(set(d) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") for d in domains)
