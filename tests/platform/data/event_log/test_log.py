"""The event log in SQL, in files, and as part of all interactions."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.event import listen

from rf_platform.data.event_log import (
    Event,
    EventLog,
    EventParts,
    GroupCommit,
    has_all_after,
    log_relation,
    seal,
)
from rf_platform.data.event_log import parts as parts_module
from rf_platform.errors import CorruptError, UnavailableError
from rf_platform.settings import Settings

US = pa.timestamp("us", tz="UTC")


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Settings]:
    """A workspace whose registry, and so its event log, is in SQLite or in a database of its own."""
    if request.param == "sqlite":
        yield Settings(home=tmp_path, registry_url=None)
        return
    server = os.environ.get("RF_TEST_POSTGRES_URL")
    if not server:
        pytest.skip("RF_TEST_POSTGRES_URL is not set")
    name = f"rf_test_{uuid4().hex}"
    engine = create_engine(server.replace("postgresql://", "postgresql+psycopg://", 1), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    yield Settings(home=tmp_path, registry_url=urlsplit(server)._replace(path=f"/{name}").geturl())
    with engine.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    engine.dispose()


@pytest.fixture
def log(settings: Settings) -> Iterator[EventLog]:
    log = EventLog.open(settings)
    yield log
    log.close()


def event(name: str, user: str = "1", item: str = "2", when: int = 1_000_000, **values: object) -> Event:
    return Event(event_id=name, user_id=user, item_id=item, timestamp_us=when, values={"event_type": "view", **values})


def test_an_id_is_recorded_once_in_any_process_and_after_a_restart(settings: Settings, log: EventLog) -> None:
    assert log.append([[event("a"), event("b"), event("a")], [event("b"), event("c")]]) == [
        [True, True, False],
        [False, True],
    ]
    log.close()
    again = EventLog.open(settings)
    assert again.append([[event("c"), event("d")]]) == [[False, True]]
    assert [(e.event_id, e.sequence) for e in again.read(0, 10)] == [("a", 1), ("b", 2), ("c", 3), ("d", 4)]
    assert again.read(2, 1) == again.read(0, 10)[2:3]
    again.close()


def test_an_id_is_remembered_when_its_event_has_left_sql_and_numbers_go_on(settings: Settings, log: EventLog) -> None:
    log.append([[event("a"), event("b")]])
    assert log.advance(log.state(), 2)
    seal(settings)
    assert log.read(0, 10) == []
    assert log.head() == 2
    assert log.append([[event("b"), event("c")]]) == [[False, True]]
    assert [e.sequence for e in log.read(0, 10)] == [3]


def test_events_that_the_online_store_lacks_stay_in_sql(settings: Settings, log: EventLog) -> None:
    log.append([[event("a"), event("b"), event("c")]])
    assert log.advance(log.state(), 1)
    assert seal(settings).sealed == 3
    assert [e.event_id for e in log.read(0, 10)] == ["b", "c"]


def test_a_materialisation_makes_the_applier_start_over(settings: Settings, log: EventLog) -> None:
    log.append([[event(str(n)) for n in range(10)]])
    before = log.state()
    assert log.advance(before, 8)
    log.materialized(5)
    state = log.state()
    assert (state.applied, state.replay_until, state.reset) == (5, 10, 1)
    assert not log.advance(before, 9)  # a batch that began before
    assert log.state() == state
    assert log.advance(state, 7)
    log.materialized(10)
    assert log.state().applied == 7


def test_events_that_a_materialisation_may_overwrite_stay_in_sql_until_it_has_ended(
    settings: Settings, log: EventLog
) -> None:
    log.append([[event("a"), event("b")]])
    assert log.advance(log.state(), 2)
    sealed = seal(settings).sealed
    log.loading(sealed)
    log.append([[event("c"), event("d")]])
    assert log.advance(log.state(), 4)
    assert seal(settings).sealed == 4  # a dataset is built meanwhile
    log.materialized(sealed)
    state = log.state()
    assert (state.applied, state.replay_until) == (2, 4)
    assert [e.event_id for e in log.read(state.applied, 10)] == ["c", "d"]
    assert log.advance(state, 4)
    seal(settings)
    assert log.read(0, 10) == []


def test_a_gap_in_the_numbers_is_no_missing_file(settings: Settings, log: EventLog) -> None:
    """PostgreSQL leaves one where an insert was rolled back, or where it crashed."""
    with log.engine.begin() as connection:
        gap = (
            "INSERT INTO sqlite_sequence VALUES ('rf_events', 32)"
            if connection.dialect.name == "sqlite"
            else "SELECT setval(pg_get_serial_sequence('rf_events', 'sequence'), 32)"
        )
        connection.execute(text(gap))
    log.append([[event("a"), event("b")]])
    assert [e.sequence for e in log.read(0, 10)] == [33, 34]
    parts, elsewhere = EventParts(settings.workspace.events), EventParts(settings.workspace.root / "none")
    assert has_all_after(log, elsewhere, 0)
    assert log.advance(log.state(), 33)
    seal(settings)
    assert [e.sequence for e in log.read(0, 10)] == [34]
    assert log.state().trimmed == 33
    assert [has_all_after(log, elsewhere, number) for number in (0, 32, 33, 34)] == [False, False, True, True]
    assert has_all_after(log, parts, 0)
    with log.engine.begin() as connection:  # as an earlier version left it
        connection.execute(text("DELETE FROM rf_event_state WHERE name = 'trimmed'"))
    with closing(EventLog.open(settings)) as again:
        assert again.state().trimmed == 33
        assert again.advance(again.state(), 34)
        seal(settings)
        assert again.state().trimmed == 34
        assert not has_all_after(again, elsewhere, 33)


def test_group_commit_keeps_requests_whole_and_in_order(log: EventLog) -> None:
    commits = GroupCommit(log)
    with ThreadPoolExecutor(8) as threads:
        done = list(threads.map(lambda r: commits.submit([event(f"{r}-{n}") for n in range(5)]).result(), range(100)))
    commits.close()
    assert done == [[True] * 5] * 100
    names = [e.event_id for e in log.read(0, 1000)]
    starts = [names.index(f"{r}-0") for r in range(100)]
    assert all(names[start : start + 5] == [f"{r}-{n}" for n in range(5)] for r, start in enumerate(starts))


def test_a_log_that_cannot_be_written_says_so_and_records_nothing(tmp_path: Path) -> None:
    import sqlite3

    settings = Settings(home=tmp_path, registry_url=None)
    log = EventLog.open(settings)
    commits = GroupCommit(log)
    with sqlite3.connect(settings.workspace.events / "log.db", isolation_level=None) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(UnavailableError, match=r"locked"):
            commits.submit([event("a")]).result()
        other.execute("ROLLBACK")
    assert commits.submit([event("a")]).result() == [True]
    commits.close()
    log.close()


WRITER = """
import sys
from pathlib import Path
from rf_platform.data.event_log import Event, EventLog
from rf_platform.settings import Settings
home, url, name, count = Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])
log = EventLog.open(Settings(home=home, registry_url=url))
for n in range(count):
    new = log.append([[Event(event_id=f"{name}{n}", user_id="1", item_id="2", timestamp_us=n + 1, values={})]])
    print(n, new[0][0], flush=True)
"""


def start(settings: Settings, name: str, count: int = 1_000_000) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", WRITER, str(settings.home), settings.platform_registry_url, name, str(count)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_no_number_is_missed_while_two_processes_write(settings: Settings, log: EventLog) -> None:
    """A follower that has read number n must never find a smaller one later."""
    writers = [start(settings, "x", 150), start(settings, "x", 150)]
    followed: list[int] = []
    while any(w.poll() is None for w in writers) or len(followed) < log.head():
        followed += [e.sequence for e in log.read(followed[-1] if followed else 0, 100)]
    acknowledged = [line.split() for w in writers if w.stdout for line in w.stdout]
    for writer in writers:
        assert writer.stdout is not None
        writer.stdout.close()
    assert followed == [e.sequence for e in log.read(0, 1000)]
    assert len(acknowledged) == 300
    assert sum(new == "True" for _, new in acknowledged) == len(followed) == 150


def test_an_append_is_on_disk(settings: Settings) -> None:
    url = settings.registry_url
    careless = (
        settings
        if url is None
        else settings.model_copy(update={"registry_url": f"{url}?options=-csynchronous_commit%3Doff"})
    )
    log = EventLog.open(careless)
    query = "PRAGMA synchronous" if url is None else "SHOW synchronous_commit"
    found: list[Any] = []
    listen(log.engine, "commit", lambda connection: found.append(connection.exec_driver_sql(query).scalar()))
    log.append([[Event(event_id="a", user_id="1", item_id="2", timestamp_us=1)]])
    log.close()
    assert found[-1] == (2 if url is None else "on")


def test_kill_9_loses_nothing_that_was_acknowledged(settings: Settings, log: EventLog) -> None:
    random = Random(0)
    for attempt in range(6):
        writer = start(settings, f"k{attempt}-")
        assert writer.stdout is not None
        lines = [writer.stdout.readline()]  # it has begun
        time.sleep(random.random() * 0.2)
        writer.kill()
        lines += writer.stdout.readlines()
        writer.wait()
        writer.stdout.close()
        acknowledged = [f"k{attempt}-{line.split()[0]}" for line in lines if line.endswith("\n")]
        recorded = [e.event_id for e in log.read(0, 1_000_000) if e.event_id.startswith(f"k{attempt}-")]
        assert recorded[: len(acknowledged)] == acknowledged
        assert len(recorded) - len(acknowledged) in (0, 1)
        assert len(set(recorded)) == len(recorded)


# Files


def names(parts: EventParts) -> list[str]:
    with parts.reading() as files:
        return [name for file in files for name in pq.read_table(file)["__event_id"].to_pylist()]


def test_files_hold_every_event_once_whenever_they_are_made(
    settings: Settings, log: EventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts_module, "MERGED_ROWS", 25)
    random, expected = Random(1), []
    for round_ in range(20):
        some = [f"{round_}-{n}" for n in range(random.randrange(8))]
        log.append([[event(name) for name in some]])
        expected += some
        if random.random() < 0.5:
            log.advance(log.state(), random.randint(log.state().applied, log.head()))
        parts = seal(settings)
        assert names(parts) == expected
    assert 2 <= len(parts.parts) <= 8
    on_disk = {path.name for path in settings.workspace.events.glob("*.parquet")}
    assert on_disk == {part.file for part in parts.parts}


@pytest.mark.parametrize("step", ["replace", "fsync", "unlink", "trim"])
def test_a_move_into_files_that_breaks_off_is_taken_up_again(
    settings: Settings, log: EventLog, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    log.append([[event(str(n)) for n in range(5)]])
    log.advance(log.state(), 5)
    seal(settings)
    for broken in range(1, 6):
        log.append([[event(f"{broken}-{n}") for n in range(5)]])
        log.advance(log.state(), log.head())
        left = [broken]

        def fail(*_: object, left: list[int] = left) -> None:
            left[0] -= 1
            if left[0] == 0:
                raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            if step == "trim":
                patch.setattr(EventLog, "trim", fail)
            else:
                where: Any = os if step in ("replace", "fsync") else Path
                original = getattr(where, step)
                patch.setattr(where, step, lambda *a, f=fail, o=original, **k: (f(), o(*a, **k))[1])
            with suppress(KeyboardInterrupt):
                seal(settings)
        expected = [str(n) for n in range(5)] + [f"{b}-{n}" for b in range(1, broken + 1) for n in range(5)]
        assert names(seal(settings)) == expected


def test_a_file_that_is_being_read_stays(settings: Settings, log: EventLog) -> None:
    log.append([[event("a")]])
    with seal(settings).reading() as files:
        log.append([[event("b")]])
        assert names(seal(settings)) == ["a", "b"]
        assert all(file.exists() for file in files)
    log.append([[event("c")]])
    seal(settings)
    assert not any(file.exists() for file in files)


def test_a_damaged_manifest_is_refused(settings: Settings, log: EventLog) -> None:
    log.append([[event("a")]])
    seal(settings)
    (settings.workspace.events / "manifest.json").write_text("{}")
    with pytest.raises(CorruptError, match=r"manifest\.json is not the manifest of an event log"):
        seal(settings)


# All interactions


def at(*when: int) -> datetime:
    return datetime(*when, tzinfo=UTC)  # type: ignore[misc, arg-type]


def us(moment: datetime) -> int:
    return int(moment.timestamp() * 1_000_000)


def write_imported(path: Path) -> None:
    pq.write_table(
        pa.table(
            {
                "user_id": pa.array([1, 1], pa.int64()),
                "item_id": pa.array([5, 6], pa.int64()),
                "event_timestamp": pa.array([at(2024, 1, 1), at(2024, 1, 2)], US),
                "event_type": ["view", "view"],
                "rating": pa.array([None, 2.0], pa.float32()),
                "hour": pa.array([0, 0], pa.int64()),
                "weekday": pa.array([0, 1], pa.int64()),
                "input_order": pa.array([1, 2], pa.int64()),
                "device": ["a", None],
                "tags": [["x"], None],
                "until": pa.array([None, at(2025, 1, 1)], US),
            }
        ),
        path,
    )


@pytest.mark.parametrize("clock", [True, False])
def test_events_have_the_columns_of_the_import(settings: Settings, log: EventLog, tmp_path: Path, clock: bool) -> None:
    imported = tmp_path / "interactions.parquet"
    write_imported(imported)
    sunday = at(2024, 3, 3, 23, 59)
    log.append(
        [
            [
                event("dup", "1", "6", us(at(2024, 1, 2))),
                event("other type", "1", "6", us(at(2024, 1, 2)), event_type="buy"),
                event(
                    "new", "9", "7", us(sunday) + 1, rating=0.1, device="b", tags=["y", "z"], until=us(at(2026, 1, 1))
                ),
                event("odd", "9", "7", us(sunday) + 1, unknown="1"),
            ]
        ]
    )
    with seal(settings).reading() as files, duckdb.connect() as db:
        db.execute("SET TimeZone = 'UTC'")
        relation = log_relation(db, imported, files, clock=clock)
        rows = db.execute(f"SELECT * FROM {relation} ORDER BY input_order").to_arrow_table()
    assert rows.schema.names == pq.read_schema(imported).names
    assert rows.num_rows == 5
    buy, new, odd = rows.to_pylist()[2:]
    assert (buy["user_id"], buy["item_id"], buy["event_type"], buy["rating"]) == (1, 6, "buy", None)
    assert (new["hour"], new["weekday"]) == ((23, 6) if clock else (None, None))
    assert new["rating"] == pa.scalar(0.1, pa.float32()).as_py()
    assert (new["device"], new["tags"], new["until"]) == ("b", ["y", "z"], at(2026, 1, 1))
    assert us(new["event_timestamp"]) == us(sunday) + 1
    assert rows["input_order"].to_pylist() == sorted(rows["input_order"].to_pylist())
    assert odd["item_id"] == 7


def test_without_events_the_table_is_read_as_it_is(tmp_path: Path, settings: Settings) -> None:
    write_imported(tmp_path / "interactions.parquet")
    parts = seal(settings)
    assert parts.parts == []
    with parts.reading() as files, duckdb.connect() as db:
        relation = log_relation(db, tmp_path / "interactions.parquet", files)
        assert db.execute(f"SELECT count(*) FROM {relation}").fetchall() == [(2,)]
