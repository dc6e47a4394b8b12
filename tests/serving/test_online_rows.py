"""The fast read of the online store gives what Feast's own gives, for every type, engine and kind of user."""

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rf_platform.errors import UnavailableError
from rf_platform.features.apply import apply_definitions
from rf_platform.features.leftovers import remove_rows
from rf_platform.features.materialize import materialize
from rf_platform.features.read import read_spec
from rf_platform.features.seen import seen_view
from rf_platform.features.seen_rows import drop_seen
from rf_platform.features.spec_fit import SpecFit
from rf_platform.features.store import open_store, quiet
from rf_platform.settings import Settings
from rf_serving.user_features.fetcher import FeatureFetcher

US = pa.timestamp("us", tz="UTC")
DEFINITIONS = """
import os
from feast import Entity, FeatureService, FeatureView, Field, FileSource, ValueType
from feast.types import Array, Bool, Float32, Float64, Int32, Int64, String, UnixTimestamp
TABLES = os.environ["RF_TABLES"]
user = Entity(name="user", join_keys=["user_id"], value_type=ValueType.STRING)
item = Entity(name="item", join_keys=["item_id"], value_type=ValueType.STRING)
def source(name):
    return FileSource(name=name, path=f"{TABLES}/{name}.parquet", timestamp_field="event_timestamp")
number = {"kind": "numeric"}
profile = FeatureView(name="profile", entities=[user], source=source("users"), schema=[
    Field(name="text", dtype=String), Field(name="small", dtype=Int32), Field(name="big", dtype=Int64),
    Field(name="flag", dtype=Bool), Field(name="single", dtype=Float32), Field(name="double", dtype=Float64),
    Field(name="since", dtype=UnixTimestamp), Field(name="words", dtype=Array(String)),
    Field(name="codes", dtype=Array(Int64)), Field(name="vector", dtype=Array(Float32)),
])
more = FeatureView(name="more", entities=[user], source=source("users"), schema=[Field(name="country", dtype=String)])
history = FeatureView(name="recent", entities=[user], source=source("user_history"), tags={"history_length": "3"}, schema=[
    Field(name="items", dtype=Array(String), tags={"role": "history", "of": "item_id"}),
    Field(name="times", dtype=Array(UnixTimestamp), tags={"role": "history", "of": "event_timestamp"}),
    Field(name="stars", dtype=Array(Float64), tags={"role": "history", "of": "rating"}),
    Field(name="hours", dtype=Array(Int64), tags={"role": "history", "of": "hour"}),
    Field(name="devices", dtype=Array(String), tags={"role": "history", "of": "device"}),
])
items = FeatureView(name="things", entities=[item], source=source("items"), schema=[Field(name="title", dtype=String)])
retrieval = FeatureService(name="retrieval", features=[profile, more, history, items])
"""
EXTRA = """extra = FeatureView(
    name="extra", entities=[user], source=source("users"), schema=[Field(name="country", dtype=String)]
)"""
YAML = """project: PROJECT
provider: local
registry: {registry_type: sql}
online_store: {type: sqlite}
offline_store: {type: duckdb}
entity_key_serialization_version: 3
"""
USERS = ["full", "nulls", "no history", "ünïcode — ☂", "unknown", ""]


def write(home: Path) -> None:
    now = datetime(2024, 5, 1, 12, tzinfo=UTC)
    users = USERS[:2] + USERS[2:4]
    rows: dict[str, Any] = {
        "user_id": users,
        "event_timestamp": pa.array([now] * 4, US),
        "text": ["a", None, "", "☂"],
        "small": pa.array([1, None, -3, 4], pa.int32()),
        "big": [2**52 + 1, None, -(2**60), 0],
        "flag": [True, None, False, True],
        "single": pa.array([0.1, None, float("inf"), -0.0], pa.float32()),
        "double": [0.1, None, 1e300, float("nan")],
        "since": pa.array([now, None, datetime(1960, 1, 1, tzinfo=UTC), now], US),
        "words": [["x", "y"], None, [], ["☂"]],
        "codes": [[1, 2**40], None, [], [0]],
        "vector": pa.array([[0.1, 0.2], None, [1.0, 2.0], [3.0, 4.0]], pa.list_(pa.float32())),
        "country": ["de", None, "fr", "☂"],
    }
    tables = home / "tables"
    tables.mkdir()
    pq.write_table(pa.table(rows), tables / "users.parquet")
    pq.write_table(
        pa.table({"item_id": ["i1"], "event_timestamp": pa.array([now], US), "title": ["one"]}),
        tables / "items.parquet",
    )
    count = 8
    pq.write_table(
        pa.table(
            {
                "user_id": ["full"] * 5 + ["nulls", "ünïcode — ☂", "ünïcode — ☂"],
                "item_id": [f"i{n}" for n in range(count)],
                "event_timestamp": pa.array([datetime(2024, 1, 1, n, tzinfo=UTC) for n in range(count)], US),
                "event_type": ["v"] * count,
                "rating": pa.array([None, 1.0, 2.5, None, 4.0, None, 1.0, 2.0], pa.float32()),
                "hour": list(range(count)),
                "weekday": [0] * count,
                "input_order": list(range(count)),
                "device": ["a", None, "b", "c", None, None, "☂", "d"],
            }
        ),
        tables / "interactions.parquet",
    )


@pytest.fixture(
    scope="module",
    params=[
        "sqlite",
        pytest.param("RF_TEST_REDIS_URL", marks=pytest.mark.redis, id="redis"),
        pytest.param("RF_TEST_POSTGRES_URL", marks=pytest.mark.postgres, id="postgres"),
    ],
)
def kinds(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """A workspace with a field of every type."""
    url = None
    if request.param != "sqlite" and not (url := os.environ.get(request.param)):
        pytest.skip(f"{request.param} is not set")
    home = tmp_path_factory.mktemp("kinds")
    write(home)
    repository = home / "repo"
    repository.mkdir()
    (repository / "definitions.py").write_text(DEFINITIONS)
    (repository / "feature_store.yaml").write_text(YAML.replace("PROJECT", f"t{uuid4().hex}"))
    settings = Settings(home=home, feature_repo=repository, online_store_url=url)
    apply_definitions(settings)
    materialize(settings)
    yield settings
    if url:
        with quiet():
            store = open_store(settings)
            drop_seen(store, read_spec(store, "retrieval"))
            store.teardown()


@pytest.fixture(scope="module")
def loaded(kinds: Settings) -> tuple[Any, Any]:
    """Its store and spec."""
    store = open_store(kinds)
    return store, read_spec(store, "retrieval")


def fetcher_of(store: Any, spec: Any) -> FeatureFetcher:
    bundle: Any = SimpleNamespace(spec=spec)
    return FeatureFetcher(store, bundle)


def plain(value: Any) -> Any:
    if isinstance(value, list):
        return [plain(each) for each in value]
    return round(value.timestamp() * 1e6) if isinstance(value, datetime) else value


def test_values_are_those_of_get_online_features(loaded: tuple[Any, Any]) -> None:
    store, spec = loaded
    features = [f"{f.view}:{f.field}" for f in (*spec.inputs("user"), *spec.history)]
    with quiet():
        answer = store.get_online_features(
            features=features, entity_rows=[{"user_id": u} for u in USERS], full_feature_names=True
        ).to_dict()
    expected = {user: {name: plain(answer[name][i]) for name in answer} for i, user in enumerate(USERS)}
    fetcher = fetcher_of(store, spec)
    for user, found in zip([*USERS, *USERS[::-1]], fetcher.fetch_many([*USERS, *USERS[::-1]]), strict=True):
        wanted = expected[user]
        np.testing.assert_equal(dict(found.profile), {f.name: wanted[f.name] for f in spec.inputs("user")})
        assert list(found.items) == (wanted["recent__items"] or [])
        if found.items:
            assert found.timestamps is not None
            assert found.timestamps.tolist() == wanted["recent__times"]
            context = {f"recent__{name}": wanted[f"recent__{name}"] for name in ("stars", "hours", "devices")}
            np.testing.assert_equal(dict(found.context), context)
        assert found.seen is None
    seen = {user: found.seen for user, found in zip(USERS, fetcher.fetch_many(USERS, seen=True), strict=True)}
    assert seen["full"] == ["i0", "i1", "i2", "i3", "i4"]
    assert (seen["nulls"], seen["ünïcode — ☂"]) == (["i5"], ["i6", "i7"])
    assert seen["no history"] is seen["unknown"] is seen[""] is None
    full = fetcher.fetch("full")
    assert (full.profile["profile__big"], full.items) == (2**52 + 1, ["i2", "i3", "i4"])
    assert fetcher.fetch("nulls").profile["profile__since"] is None
    assert fetcher.fetch("unknown").items == ()
    fetcher.close()


def test_seen_sets_of_string_ids_are_added_to(loaded: tuple[Any, Any]) -> None:
    from rf_platform.data.event_log import LoggedEvent
    from rf_serving.events.online_seen import OnlineSeen
    from rf_serving.user_features.features import SeenRead
    from rf_serving.user_features.online_store import close_online, open_online

    store, spec = loaded
    seen, online = OnlineSeen(store, spec), open_online(store.config)
    pairs = [
        seen.pair(
            LoggedEvent(
                sequence=n, event_id="", user_id="☂", item_id=item, timestamp_us=(5 - n) * 1_000_000, values=values
            )
        )
        for n, (item, values) in enumerate([("z", {"event_type": "buy"}), ("a ☂", {}), ("z", {"event_type": "buy"})])
    ]
    seen.prepare(online)
    assert seen.read(online, ["☂"]) == {}
    row = seen.added(None, pairs)
    assert row is not None
    assert seen.added(row, pairs) is None
    assert seen.added(row, [("z", "buy", 4)]) is None  # late
    seen.write(online, {"☂": row})
    assert seen.read(online, ["full", "☂"])["☂"] == row
    fetcher = fetcher_of(store, spec)
    assert fetcher.fetch("☂", seen=True).seen == ["a ☂", "z"]
    whole = fetcher.fetch("☂", seen=SeenRead.EVENTS)
    assert whole.seen_events is not None
    assert (whole.seen, whole.seen_events.types_S.tolist()) == (["a ☂", "z"], ["", "buy"])
    assert whole.seen_events.seconds_S.tolist() == [4, 5]
    fetcher.close()
    close_online(online)


def test_some_fields_of_a_view_are_read_as_all_of_them_are(loaded: tuple[Any, Any]) -> None:
    from rf_serving.user_features.online_rows import OnlineRows

    store, spec = loaded
    fields = [(f.view, f.field) for f in (*spec.inputs("user"), *spec.history)]
    every, some = OnlineRows(store, fields), OnlineRows(store, fields[::2])
    names = {f"{view}__{field}" for view, field in fields[::2]}
    for ids in (USERS, USERS[:1]):
        expected = [{name: value for name, value in row.items() if name in names} for row in every.read(ids)]
        assert some.read(ids) == expected
        assert any(expected)
    every.close()
    some.close()


def test_any_other_online_store_is_read_by_feasts_own_calls(loaded: tuple[Any, Any]) -> None:
    store, spec = loaded
    fast, slow = fetcher_of(store, spec), fetcher_of(store, spec)
    expected = fast.fetch_many(USERS, seen=True)
    from rf_platform.features.seen import ITEMS
    from rf_serving.user_features.online_store import open_online

    slow._rows._online = open_online(store.config)
    rows: Any = slow._rows
    rows._read = partial(rows._by_view, rows._views, False)
    rows._readers = {((ITEMS,), False): partial(rows._by_view, [*rows._views, (rows._more, [ITEMS])], False)}
    np.testing.assert_equal([vars(f) for f in slow.fetch_many(USERS, seen=True)], [vars(f) for f in expected])
    fast.close()
    slow.close()


def test_it_connects_anew_after_a_failure(loaded: tuple[Any, Any]) -> None:
    store, spec = loaded
    fetcher = fetcher_of(store, spec)
    expected = fetcher.fetch("full").items
    rows: Any = fetcher._rows

    def broken(*_: Any) -> Any:
        raise ConnectionError("gone")

    rows._read = broken
    with pytest.raises(UnavailableError, match=r"user_id 'full' cannot be read"):
        fetcher.fetch("full")
    assert fetcher.fetch("full").items == expected
    fetcher.close()


def test_fields_that_are_not_loaded_yet_are_missing_and_the_others_as_before(
    kinds: Settings, loaded: tuple[Any, Any]
) -> None:
    """Last of the module: it changes the definitions, and loads nothing."""
    store, spec = loaded
    before = [vars(found) for found in fetcher_of(store, spec).fetch_many(USERS)]
    assert kinds.feature_repo is not None
    definitions = kinds.feature_repo / "definitions.py"
    text = definitions.read_text()
    for old, new in (
        ('Field(name="text"', 'Field(name="later", dtype=Array(Float32)), Field(name="text"'),
        (
            'Field(name="stars"',
            'Field(name="again", dtype=Array(Int64), tags={"role": "history", "of": "hour"}), Field(name="stars"',
        ),
        ("items = FeatureView", f"{EXTRA}\nitems = FeatureView"),
        ("features=[", "features=[extra, "),
    ):
        assert old in text
        text = text.replace(old, new, 1)
    definitions.write_text(text)
    apply_definitions(kinds)
    now = read_spec(store, "retrieval")
    assert SpecFit.of(spec, now).added == ("extra__country", "profile__later", "recent__again")
    np.testing.assert_equal([vars(found) for found in fetcher_of(store, spec).fetch_many(USERS)], before)
    for found, was in zip(fetcher_of(store, now).fetch_many(USERS), before, strict=True):
        profile = dict(found.profile)
        assert {profile.pop(name) for name in ("extra__country", "profile__later")} == {None}
        np.testing.assert_equal({**vars(found), "profile": profile}, was)


def test_a_timed_read_says_of_which_time_each_row_is(loaded: tuple[Any, Any]) -> None:
    fetcher = fetcher_of(*loaded)
    users = ["full", "no history", "unknown"]
    full, cold, unknown = timed = fetcher.fetch_many(users, seen=True, timed=True)
    loaded_at = round(datetime(2024, 5, 1, 12, tzinfo=UTC).timestamp() * 1e6)
    newest = round(datetime(2024, 1, 1, 4, tzinfo=UTC).timestamp() * 1e6)
    assert full.moments == {"profile": loaded_at, "more": loaded_at, "recent": newest}
    assert cold.moments == {"profile": loaded_at, "more": loaded_at}
    assert unknown.moments == {}
    assert abs(full.read_us / 1e6 - datetime.now(UTC).timestamp()) < 60
    for each, plainly in zip(timed, fetcher.fetch_many(users, seen=True), strict=True):
        assert plainly.moments is None
        np.testing.assert_equal(dict(each.profile), dict(plainly.profile))
        assert list(each.items) == list(plainly.items)
        np.testing.assert_equal(each.seen, plainly.seen)
    fetcher.close()


def test_rows_of_one_user_are_removed(loaded: tuple[Any, Any]) -> None:
    """Last of this file: the store has one user less afterwards."""
    store, spec = loaded
    views = [*(store.get_feature_view(name) for name in ("profile", "more", "recent")), seen_view(store, spec)]
    with quiet():
        assert [remove_rows(store, view, ["nulls"]) for view in views] == [1, 1, 1, 1]
        assert [remove_rows(store, view, ["nulls"]) for view in views] == [0, 0, 0, 0]
    fetcher = fetcher_of(store, spec)
    gone, other = fetcher.fetch_many(["nulls", "full"], seen=True, timed=True)
    assert gone.moments == {}
    assert (gone.items, gone.seen) == ((), None)
    assert other.seen == ["i0", "i1", "i2", "i3", "i4"]
    fetcher.close()
