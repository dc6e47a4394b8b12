"""Point-in-time correctness of the generated joins, by hand and against Feast itself."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb

from rf_platform.dataset.asof import join_sql, latest_sql, rows_sql
from rf_platform.features.read import ViewSource
from rf_platform.features.sources import ViewColumns

START = datetime(2024, 1, 1, tzinfo=UTC)
LATER = int(datetime(2025, 1, 1, tzinfo=UTC).timestamp()) * 1_000_000


def at(hours: float) -> datetime:
    return START + timedelta(hours=hours)


def source(path: Path, ttl: timedelta | None = None, created: str | None = None) -> ViewSource:
    return ViewSource(
        view="v",
        side="item",
        path=str(path),
        join_key="item_id",
        timestamp="ts",
        created=created,
        ttl=ttl,
        columns={"price": "price"},
    )


def columns(view: ViewSource) -> ViewColumns:
    created = f"coalesce({view.created}, ts)" if view.created else "ts"
    return ViewColumns(key="item_id", time="ts", created=created, features={"v__price": "price"})


def join(view: ViewSource, events: list[tuple[int, datetime]]) -> list[float | None]:
    """Return the price each (item, time) event sees."""
    with duckdb.connect() as db:
        db.execute("SET TimeZone = 'UTC'")
        db.execute("CREATE TABLE log (event BIGINT, item_id BIGINT, event_timestamp TIMESTAMPTZ)")
        db.executemany("INSERT INTO log VALUES (?, ?, ?)", [(i, *e) for i, e in enumerate(events)])
        db.execute(f"CREATE TABLE rows_v AS {rows_sql(view, columns(view))}")
        rows = db.execute(
            f"""SELECT r.v__price FROM ({join_sql(view, "rows_v", "log", "item_id")}) j
            LEFT JOIN (SELECT DISTINCT rid, v__price FROM rows_v) r USING (rid) ORDER BY j.event"""
        ).fetchall()
    assert len(rows) == len(events)
    return [row[0] for row in rows]


def test_the_newest_row_before_the_event(write: Callable[..., Path]) -> None:
    path = write("v", item_id=[1, 1, 2], ts=[at(0), at(10), at(0)], price=[1.0, 2.0, 9.0])
    assert join(source(path), [(1, at(5)), (1, at(11)), (2, at(100)), (3, at(5))]) == [1.0, 2.0, 9.0, None]


def test_a_planted_future_row_is_never_used(write: Callable[..., Path]) -> None:
    """The value of the event's own time and of one microsecond later are planted; both would give the answer away."""
    tick = timedelta(microseconds=1)
    path = write("v", item_id=[1, 1, 1], ts=[at(4), at(5), at(5) + tick], price=[1.0, 666.0, 667.0])
    assert join(source(path), [(1, at(5)), (1, at(5) + tick), (1, at(5) + 2 * tick)]) == [1.0, 666.0, 667.0]


def test_nothing_known_yet(write: Callable[..., Path]) -> None:
    path = write("v", item_id=[1], ts=[at(5)], price=[1.0])
    assert join(source(path), [(1, at(5)), (1, at(4))]) == [None, None]


def test_a_row_counts_from_the_moment_it_was_created(write: Callable[..., Path]) -> None:
    path = write("v", item_id=[1, 1], ts=[at(0), at(1)], created=[at(0), at(8)], price=[1.0, 2.0])
    assert join(source(path, created="created"), [(1, at(5)), (1, at(8)), (1, at(9))]) == [1.0, 1.0, 2.0]


def test_a_late_correction_of_an_older_state_does_not_replace_a_newer_one(write: Callable[..., Path]) -> None:
    path = write(
        "v",
        item_id=[1, 1, 1],
        ts=[at(0), at(5), at(0)],
        created=[at(0), at(5), at(7)],  # the state of hour 0 is corrected at hour 7
        price=[1.0, 2.0, 1.5],
    )
    assert join(source(path, created="created"), [(1, at(3)), (1, at(6)), (1, at(9))]) == [1.0, 2.0, 2.0]


def test_among_equal_timestamps_the_last_created_wins(write: Callable[..., Path]) -> None:
    path = write("v", item_id=[1, 1], ts=[at(0), at(0)], created=[at(2), at(1)], price=[2.0, 1.0])
    assert join(source(path, created="created"), [(1, at(1.5)), (1, at(3))]) == [1.0, 2.0]


def test_ttl_is_inclusive(write: Callable[..., Path]) -> None:
    path = write("v", item_id=[1], ts=[at(0)], price=[1.0])
    tick = timedelta(microseconds=1)
    ttl = timedelta(hours=2)
    assert join(source(path, ttl=ttl), [(1, at(2)), (1, at(2) + tick), (1, at(2) + 2 * tick)]) == [1.0, 1.0, None]


def test_latest_is_what_an_online_store_would_hold(write: Callable[..., Path]) -> None:
    path = write("v", item_id=[1, 1, 2], ts=[at(0), at(10), at(3)], price=[1.0, 2.0, 3.0])
    with duckdb.connect() as db:
        db.execute(f"CREATE TABLE rows_v AS {rows_sql(source(path), columns(source(path)))}")
        found = db.execute(
            f"SELECT l.key, r.v__price FROM ({latest_sql(source(path), 'rows_v', LATER)}) l JOIN rows_v r USING (rid) ORDER BY 1"
        ).fetchall()
    assert found == [(1, 2.0), (2, 3.0)]


def test_equal_values_of_an_entity_share_a_row(write: Callable[..., Path]) -> None:
    path = write("v", item_id=[1, 1, 1], ts=[at(0), at(1), at(2)], price=[1.0, 1.0, 3.0])
    with duckdb.connect() as db:
        db.execute(f"CREATE TABLE rows_v AS {rows_sql(source(path), columns(source(path)))}")
        assert db.execute("SELECT count(DISTINCT rid) FROM rows_v").fetchone() == (2,)
