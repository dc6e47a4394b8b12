"""Rows that come late, at one time, too early, without a value or past their ttl: joins, newest states and online reads agree.

Each world is compared with a plain reading of the definition in :mod:`rf_platform.features.view_rows`.
"""

import os
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from rf_platform.dataset.asof import first_sql, join_sql, latest_sql, rows_sql
from rf_platform.features.apply import apply_definitions
from rf_platform.features.load import load_view
from rf_platform.features.read import FeatureDefinitions, ViewSource
from rf_platform.features.sources import ViewColumns, view_columns
from rf_platform.features.store import open_store, quiet
from rf_platform.settings import Settings
from rf_serving.user_features.fetcher import FeatureFetcher
from rf_serving.user_features.online_store import close_online

pytestmark = [  # Feast leaves its connections to PostgreSQL open
    pytest.mark.filterwarnings("ignore:.*was deleted while still open:ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
US = pa.timestamp("us", tz="UTC")
START = datetime(2024, 10, 27, tzinfo=UTC)  # Europe sets its clocks back that night
USERS = (1, 2)
DEFINITIONS = """
import os
from datetime import timedelta
from feast import Entity, FeatureService, FeatureView, Field, FileSource, ValueType
from feast.types import Float64, Int64
TABLES = os.environ["RF_TABLES"]
user = Entity(name="user", join_keys=["user_id"], value_type=ValueType.INT64)
item = Entity(name="item", join_keys=["item_id"], value_type=ValueType.INT64)
fields = [Field(name="position", dtype=Int64, tags={"kind": "numeric"})]
def view(name, created, ttl):
    source = FileSource(name=name, path=f"{TABLES}/rows.parquet", timestamp_field="ts", created_timestamp_column=created)
    return FeatureView(name=name, entities=[user], source=source, schema=fields, ttl=ttl)
plain, created = view("plain", "", None), view("created", "created", timedelta(0))
expiring, both = view("expiring", "", timedelta(hours=2)), view("both", "created", timedelta(hours=2))
brief, ages = view('bri.ef %s "1"', "", timedelta(seconds=1)), view("âges/select", "", timedelta(days=2_500_000))
retrieval = FeatureService(name="retrieval", features=[plain, created, expiring, both, brief, ages])
"""
YAML = """project: PROJECT
provider: local
registry: {registry_type: sql}
online_store: {type: sqlite}
offline_store: {type: duckdb}
entity_key_serialization_version: 3
"""

Row = tuple[int, int, int | None, int | None]
"""User, hour of the event timestamp, hours until it was created (None: not noted), value."""
ROWS = st.lists(
    st.tuples(
        st.sampled_from(USERS),
        st.integers(0, 6),
        st.one_of(st.none(), st.integers(-1, 3)),
        st.one_of(st.none(), st.integers(0, 99)),
    ),
    max_size=12,
)
MOMENTS = st.lists(st.integers(-1, 12), min_size=1, max_size=4).map(sorted)
HOURS = 3_600_000_000
START_US = int(START.timestamp()) * 1_000_000


def at(hour: int) -> datetime:
    return START + timedelta(hours=hour)


def held(rows: list[Row], view: ViewSource, user: int, moment: int, read: int | None = None) -> int | None:
    """What the user has of a view at hour ``moment``, and of what was loaded then at hour ``read``."""
    found = _row(rows, view, user, moment)
    if found is None or (
        view.ttl is not None and timedelta(hours=(moment if read is None else read) - found[1]) > view.ttl
    ):
        return None
    return found[3]


def _row(rows: list[Row], view: ViewSource, user: int, moment: int) -> Row | None:
    known = [
        ((hour, _created(row, view), place), row)
        for place, row in enumerate(rows)
        if row[0] == user and max(hour := row[1], _created(row, view)) < moment
    ]
    return max(known, key=lambda k: k[0])[1] if known else None


def _created(row: Row, view: ViewSource) -> int:
    return row[1] + (row[2] or 0) if view.created else row[1]


def first(rows: list[Row], view: ViewSource, user: int, moment: int) -> int | None:
    """What the user had first, as far as it was known before hour ``moment``."""
    known = sorted({max(row[1], _created(row, view)) for row in rows if row[0] == user})
    for hour in (hour for hour in known if hour < moment):
        row = _row(rows, view, user, hour + 1)  # hours are the smallest step here
        assert row is not None
        if max(row[1], _created(row, view)) == hour and (
            view.ttl is None or timedelta(hours=hour - row[1]) <= view.ttl
        ):
            return row[3]
    return None


@pytest.fixture(
    scope="module",
    params=[
        "sqlite",
        pytest.param("sqlite in Berlin"),
        pytest.param("RF_TEST_REDIS_URL", marks=pytest.mark.redis, id="redis"),
        pytest.param("RF_TEST_POSTGRES_URL", marks=pytest.mark.postgres, id="postgres"),
    ],
)
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, Any, Path]]:
    """A store, its definitions and the file that its views read."""
    url = None
    if not request.param.startswith("sqlite") and not (url := os.environ.get(request.param)):
        pytest.skip(f"{request.param} is not set")
    before = {name: os.environ.pop(name, None) for name in ("TZ", "PGTZ")}
    os.environ["PGTZ"] = "Asia/Tokyo"  # of sessions of PostgreSQL
    if "Berlin" in request.param:
        os.environ["TZ"] = "Europe/Berlin"
    time.tzset()
    home = tmp_path_factory.mktemp("worlds")
    repository = home / "repo"
    repository.mkdir()
    names = DEFINITIONS.replace("%s", "s") if "POSTGRES" in request.param else DEFINITIONS
    (repository / "definitions.py").write_text(names)
    (repository / "feature_store.yaml").write_text(YAML.replace("PROJECT", f"t{uuid4().hex}"))
    options = Settings(home=home, feature_repo=repository, online_store_url=url)
    options.workspace.tables.mkdir()
    file = options.workspace.tables / "rows.parquet"
    write(file, [])
    definitions = apply_definitions(options).definitions
    store = open_store(options)
    yield store, definitions, file
    if url:
        with quiet():
            store.teardown()
    close_online(store._get_provider().online_store)
    for name, value in before.items():
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value
    time.tzset()


def write(file: Path, rows: list[Row]) -> None:
    table = {
        "user_id": pa.array([r[0] for r in rows], pa.int64()),
        "ts": pa.array([at(r[1]) for r in rows], US),
        "created": pa.array([None if r[2] is None else at(r[1] + r[2]) for r in rows], US),
        "position": pa.array([r[3] for r in rows], pa.int64()),
    }
    pq.write_table(pa.table(table), file)


PLANNED: list[Row] = [(1, 0, None, 1), (1, 5, None, 2)]
TIES: list[Row] = [
    (1, 0, None, 6),
    (1, 0, None, 7),
    (1, 0, None, None),
    (1, 0, None, 8),
    (2, 0, None, 8),
    (2, 0, None, None),
]


@given(rows=ROWS, moments=MOMENTS, created=st.sampled_from([None, "created"]), ttl=st.sampled_from([None, 2]))
@settings(max_examples=60, deadline=None)
@example(rows=PLANNED, moments=[3], created=None, ttl=None)
@example(rows=TIES, moments=[1, 2, 3], created="created", ttl=2)
def test_joins_and_states(
    tmp_path_factory: pytest.TempPathFactory, rows: list[Row], moments: list[int], created: str | None, ttl: int | None
) -> None:
    file = tmp_path_factory.mktemp("states") / "rows.parquet"
    write(file, rows)
    events = [(user, moment) for user in USERS for moment in moments]
    view = ViewSource(
        view="v",
        side="user",
        path=str(file),
        join_key="user_id",
        timestamp="ts",
        created=created,
        ttl=None if ttl is None else timedelta(hours=ttl),
        columns={"position": "position"},
    )
    known = f"coalesce({created}, ts)" if created else "ts"
    columns = ViewColumns(key="user_id", time="ts", created=known, features={"v__position": "position"})
    with duckdb.connect(config={"threads": 1}) as db:
        db.execute("SET TimeZone = 'UTC'")
        db.execute("CREATE TABLE log (event BIGINT, user_id BIGINT, event_timestamp TIMESTAMPTZ)")
        db.executemany("INSERT INTO log VALUES (?, ?, ?)", [(i, u, at(m)) for i, (u, m) in enumerate(events)])
        db.execute(f"CREATE TABLE rows_v AS {rows_sql(view, columns)}")
        values = dict(db.execute("SELECT DISTINCT rid, v__position FROM rows_v").fetchall())
        joined = db.execute(f"{join_sql(view, 'rows_v', 'log', 'user_id')} ORDER BY event").fetchall()
        assert [values.get(rid) for _, rid in joined] == [held(rows, view, *event) for event in events]
        for moment in moments:
            for sql, expected in ((latest_sql, held), (first_sql, first)):
                found = dict(db.execute(sql(view, "rows_v", START_US + moment * HOURS)).fetchall())
                assert {u: values.get(found.get(u)) for u in USERS} == {
                    u: expected(rows, view, u, moment) for u in USERS
                }, (sql, moment)


@given(rows=ROWS, moments=MOMENTS)
@settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    phases=[Phase.explicit, Phase.generate],
)
@example(rows=PLANNED, moments=[3])
@example(rows=TIES, moments=[1, 2, 3])
def test_online_reads(world: tuple[Any, FeatureDefinitions, Path], rows: list[Row], moments: list[int]) -> None:
    """Loaded at the first moment, and read at this one and those after it."""
    store, definitions, file = world
    write(file, rows)
    loaded, present = moments[0], [0]
    for source in definitions.sources:
        with quiet():
            load_view(store, source, definitions.spec, START_US + loaded * HOURS)
    bundle: Any = SimpleNamespace(spec=definitions.spec)
    fetcher = FeatureFetcher(store, bundle, lambda: present[0])
    slow: Any = FeatureFetcher(store, bundle, lambda: present[0])
    slow._rows._online = store._get_provider().online_store
    slow._rows._read = partial(slow._rows._by_view, slow._rows._views, False)
    for moment in moments:
        present[0] = START_US + moment * HOURS
        expected = [
            {f"{view.view}__position": held(rows, view, user, loaded, moment) for view in definitions.sources}
            for user in USERS
        ]
        assert [f.profile for f in fetcher.fetch_many(USERS)] == expected
        assert [fetcher.fetch(user).profile for user in USERS] == expected
        assert [f.profile for f in slow.fetch_many(USERS)] == expected
    fetcher.close()


def test_the_last_moment_of_a_value(world: tuple[Any, FeatureDefinitions, Path]) -> None:
    """To the microsecond, an event sees a value as long as a read at its time does."""
    store, definitions, file = world
    write(file, [(1, 0, None, 5)])
    bundle: Any = SimpleNamespace(spec=definitions.spec)
    present = [0]
    fetcher = FeatureFetcher(store, bundle, lambda: present[0])
    with duckdb.connect(config={"threads": 1}) as db:
        db.execute("SET TimeZone = 'UTC'")
        for view in definitions.sources:
            with quiet():
                load_view(store, view, definitions.spec, START_US + HOURS)
            ttl_us = 0 if view.ttl is None else view.ttl // timedelta(microseconds=1)
            ages_us = sorted({max(1, ttl_us + near) for near in (-1_000_000, 0, 1, 2, 3, 1_000_000)})
            events = [(i, 1, START + timedelta(microseconds=age)) for i, age in enumerate(ages_us)]
            db.execute("CREATE OR REPLACE TABLE log (event BIGINT, user_id BIGINT, event_timestamp TIMESTAMPTZ)")
            db.executemany("INSERT INTO log VALUES (?, ?, ?)", events)
            columns = replace(view_columns(db, view, definitions.spec), features={"v__position": "position"})
            db.execute(f"CREATE OR REPLACE TABLE rows_v AS {rows_sql(view, columns)}")
            joined = db.execute(f"{join_sql(view, 'rows_v', 'log', 'user_id')} ORDER BY event").fetchall()
            read = []
            for age in ages_us:
                present[0] = START_US + age
                read.append(fetcher.fetch(1).profile[f"{view.view}__position"])
            # An event knows what was known a microsecond before it, and the age of exactly the ttl still counts.
            assert read == [5 if not ttl_us or age - 1 <= ttl_us else None for age in ages_us], view
            assert read == [None if rid is None else 5 for _, rid in joined], view
    fetcher.close()


def test_what_was_written_directly(world: tuple[Any, FeatureDefinitions, Path]) -> None:
    """Rows that are newer than the file's stay, if they came since the last load; what else was newer is counted."""
    store, definitions, file = world
    view = next(source for source in definitions.sources if source.view == "plain")
    bundle: Any = SimpleNamespace(spec=definitions.spec)
    fetcher = FeatureFetcher(store, bundle)

    def loaded(hour: int, rows: list[Row]) -> tuple[int, int, int, int]:
        write(file, rows)
        with quiet():
            done = load_view(store, view, definitions.spec, START_US + hour * HOURS)
        return done.rows, done.kept, done.replaced, done.removed

    def pushed(*rows: tuple[int, int, int]) -> None:
        users, hours, values = zip(*rows, strict=True)
        times = [at(hour).replace(tzinfo=None) for hour in hours]
        store.write_to_online_store("plain", pd.DataFrame({"user_id": users, "ts": times, "position": values}))

    def held() -> list[Any]:
        return [features.profile["plain__position"] for features in fetcher.fetch_many([1, 2, 3, 4])]

    loaded(1000, [(1, 900, None, 1), (2, 900, None, 1)])
    assert held() == [1, 1, None, None]
    pushed((1, 1001, 2), (2, 950, 2), (3, 1001, 2), (4, 950, 2))  # two since the load, and two that look withdrawn
    assert loaded(1002, [(1, 900, None, 1), (2, 900, None, 1)]) == (2, 2, 1, 1)
    assert held() == [2, 1, 2, None]
    assert loaded(1003, [(1, 1001, None, 3), (2, 900, None, 1)]) == (2, 0, 0, 1)  # the file has caught up with user 1
    assert held() == [3, 1, None, None]
    fetcher.close()
