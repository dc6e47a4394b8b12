"""Events by their meaning, online: what is applied equals what is materialised, and both equal a plain reading of the log."""

import os
import random
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import duckdb
import numpy as np
import pyarrow.parquet as pq
import pytest

from rf_platform.data.event_log import Event, EventParts

DAY = 24 * 3600 * 1_000_000
T0 = int(datetime(2024, 1, 20, 10, tzinfo=UTC).timestamp()) * 1_000_000
RULES = """
- {type: [dislike, hide], is: unwanted}
- {type: rating, field: rating, below: 2.5, is: unwanted}
- {type: impression, is: seen}
- {type: ping, is: ignored}
"""
ENGINES = [
    "sqlite",
    pytest.param("RF_TEST_REDIS_URL", marks=pytest.mark.redis, id="redis"),
    pytest.param("RF_TEST_POSTGRES_URL", marks=pytest.mark.postgres, id="postgres"),
]
LENGTH = 8


def meaning(kind: str, rating: float | None) -> str:
    if kind == "rating":
        return "unwanted" if rating is not None and np.float32(rating) < 2.5 else "wanted"
    return {"dislike": "unwanted", "hide": "unwanted", "impression": "seen", "ping": "ignored"}.get(kind, "wanted")


@pytest.fixture(scope="module", params=ENGINES)
def declared(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, open_shop: Callable[..., Any]
) -> Iterator[Any]:
    """A workspace with those rules, whose imported log has events of all types."""
    from rf_platform.features.apply import apply_definitions
    from rf_platform.features.materialize import materialize
    from rf_platform.features.read import read_spec
    from rf_platform.features.seen_rows import drop_seen
    from rf_platform.features.store import open_store, quiet

    url = None
    if request.param != "sqlite" and not (url := os.environ.get(request.param)):
        pytest.skip(f"{request.param} is not set")
    shop = open_shop(tmp_path_factory.mktemp("meanings"), url)
    context = shop.settings.feature_repo / "context.py"
    text = context.read_text()
    begin, end = text.index('MEANINGS = """'), text.index("interaction_context = ")
    context.write_text(f'{text[:begin]}MEANINGS = """{RULES}"""\n{text[end:]}')
    table = shop.interactions
    with duckdb.connect() as db:
        types = "['rating', 'rating', 'dislike', 'impression', 'ping', 'like'][1 + input_order % 6]"
        db.execute(f"CREATE TABLE log AS SELECT * REPLACE ({types} AS event_type) FROM read_parquet('{table}')")
        db.execute(f"COPY log TO '{table}' (FORMAT parquet)")
    apply_definitions(shop.settings)
    materialize(shop.settings)
    shop.store = open_store(shop.settings)
    yield shop
    if url:
        with quiet():
            drop_seen(shop.store, read_spec(shop.store, "retrieval"))
            shop.store.teardown()


def rows(shop: Any) -> list[tuple[int, int, int, str, float | None]]:
    """User, item, moment, type and rating of every event of table and log, in order."""
    found = [
        (r["user_id"], r["item_id"], round(r["event_timestamp"].timestamp() * 1e6), r["event_type"], r["rating"])
        for r in pq.read_table(shop.interactions).sort_by("input_order").to_pylist()
    ]
    known, parts = {row[:4] for row in found}, EventParts(shop.settings.workspace.events)
    recorded: list[tuple[int, int, int, str, float | None]] = []
    with parts.reading() as files:
        for file in files:
            for r in pq.read_table(file).sort_by("__sequence").to_pylist():
                moment = round(r["__time"].timestamp() * 1e6)
                recorded.append((int(r["__user"]), int(r["__item"]), moment, r["event_type"], r.get("rating")))
    for event in shop.log.read(parts.sealed, 100_000):
        values = event.values
        recorded.append(
            (int(event.user_id), int(event.item_id), event.timestamp_us, values["event_type"], values.get("rating"))
        )
    found += [row for row in recorded if row[:4] not in known]
    return sorted(found, key=lambda row: row[2])


def check(shop: Any, users: list[int]) -> dict[int, dict[str, Any]]:
    """Compare the stored rows with a plain reading of the log."""
    log, seen = rows(shop), shop.seen(users)
    online: dict[int, dict[str, Any]] = shop.online(users)
    for user in users:
        own = [row for row in log if row[0] == user]
        wanted = [row for row in own if meaning(*row[3:]) == "wanted"][-LENGTH:]
        assert (online[user]["item_ids"] or []) == [row[1] for row in wanted]
        assert (online[user]["event_types"] or []) == [row[3] for row in wanted]
        assert seen[user] == {(row[1], row[3]) for row in own if meaning(*row[3:]) != "ignored"}
    return online


def random_events(shop: Any, event: Callable[..., Event], count: int, seed: int) -> list[Event]:
    rng = random.Random(seed)
    imported = pq.read_table(shop.interactions).to_pylist()
    events, moment = [], T0 + seed * DAY
    for number in range(count):
        user = rng.choice([*range(1, 13), 101, 102, 103])
        moment += rng.choice([1_000, 250_000, 1_000_000, 60_000_000])  # never two at one time: the order is plain
        when = moment - rng.randrange(30) * DAY - 7 if rng.random() < 0.2 else moment
        kind = rng.choice(["rating", "rating", "dislike", "hide", "impression", "ping", "like"])
        item, rating = rng.randrange(100, 130), rng.choice([{}, {"rating": 1.0}, {"rating": 2.5}, {"rating": 4.0}])
        if rng.random() < 0.05:  # a double of an imported one
            row = rng.choice(imported)
            user, item, kind = row["user_id"], row["item_id"], row["event_type"]
            when = round(row["event_timestamp"].timestamp() * 1e6)
            rating = {} if row["rating"] is None else {"rating": row["rating"]}
        events.append(event(seed * 10_000 + number, user, item, when, **rating, event_type=kind))
    return events


@pytest.mark.parametrize("seed", [1, 2])
def test_applied_equals_materialised_equals_a_plain_reading(
    declared: Any, event: Callable[..., Event], seed: int
) -> None:
    from rf_platform.features.materialize import materialize

    users = [*range(1, 13), 101, 102, 103]
    check(declared, users)  # as it was imported
    log, history = declared.log, declared.history()
    state, done = log.state(), log.head()
    log.append([random_events(declared, event, 200, seed)])
    rng = random.Random(seed)
    while batch := log.read(done, rng.choice([1, 3, 20, 60])):
        history.apply(batch)
        done = batch[-1].sequence
    assert log.advance(state, done)
    incremental = check(declared, users)
    materialize(declared.settings)
    np.testing.assert_equal(incremental, check(declared, users))


def test_impressions_leave_the_history_as_it_is(declared: Any, event: Callable[..., Event]) -> None:
    log, history, user = declared.log, declared.history(), 110
    done = log.head()
    liked = [event(70_000 + n, user, 100 + n, T0 + n * 1_000_000, event_type="like") for n in range(LENGTH)]
    log.append([liked])
    history.apply(log.read(done, 100))
    before = declared.online([user])
    assert before[user]["item_ids"] == list(range(100, 100 + LENGTH))
    for kind in ("impression", "dislike", "ping"):
        done = log.head()
        shown = [event(f"{kind}{n}", user, 100 + n % 30, T0 + DAY + n * 1_000_000, event_type=kind) for n in range(50)]
        log.append([shown])
        history.apply(log.read(done, 100))
        np.testing.assert_equal(declared.online([user]), before)
    every = {(item, kind) for item in range(100, 130) for kind in ("impression", "dislike")}
    assert declared.seen([user])[user] == every | {(100 + n, "like") for n in range(LENGTH)}


def test_a_user_of_nothing_but_impressions_has_a_seen_set_and_no_history(
    declared: Any, event: Callable[..., Event]
) -> None:
    from rf_platform.features.materialize import materialize

    log, history = declared.log, declared.history()
    state, done = log.state(), log.head()
    log.append([[event(80_000, 120, 101, T0, event_type="impression"), event(80_001, 121, 101, T0, event_type="ping")]])
    history.apply(log.read(done, 100))
    assert log.advance(state, log.head())
    for _ in range(2):
        assert declared.seen([120, 121]) == {120: {(101, "impression")}, 121: set()}
        assert not any(row["item_ids"] for row in declared.online([120, 121]).values())
        materialize(declared.settings)


def test_without_tables_too(declared: Any, event: Callable[..., Event]) -> None:
    log, history = declared.log, declared.history(tables=False)
    done = log.head()
    kinds = ["like", "dislike", "impression", "ping", "like"]
    log.append([[event(85_000 + n, 130, 100 + n, T0 + n * 1_000_000, event_type=kind) for n, kind in enumerate(kinds)]])
    history.apply(log.read(done, 100))
    assert declared.online([130])[130]["item_ids"] == [100, 104]
    assert declared.seen([130])[130] == {(100 + n, kind) for n, kind in enumerate(kinds) if kind != "ping"}
