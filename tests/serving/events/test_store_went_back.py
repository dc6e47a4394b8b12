"""An online store that is restored, emptied or replaced: what it lost is noticed, said, and put back."""

import asyncio
import json
import multiprocessing
import os
import shutil
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import pytest
from prometheus_client import CollectorRegistry

from rf_platform.data.event_log import EventLog, StoreFault, seal
from rf_platform.features.materialize import materialize
from rf_platform.settings import Settings
from rf_protos.v1.feedback_pb2 import Event, EventStatus

SECOND = 1_000_000
T0 = 1_705_740_000_000_000
USERS = [1, 2, 3, 501, 502]
ENGINES = [
    "sqlite",
    pytest.param("RF_TEST_REDIS_URL", marks=pytest.mark.redis, id="redis"),
    pytest.param("RF_TEST_POSTGRES_URL", marks=pytest.mark.postgres, id="postgres"),
]


class Backups(Protocol):
    """Copies of a project's part of an online store, by the means of its engine."""

    def take(self) -> None: ...

    def restore(self) -> None: ...

    def flush(self) -> None: ...


@dataclass
class SqliteBackups:
    """Copies of the file; the one that is restored takes the place of the file, or is written into it."""

    file: Path
    in_place: bool = False

    @property
    def copy(self) -> Path:
        return self.file.with_suffix(".backup")

    def take(self) -> None:
        with closing(sqlite3.connect(self.file)) as source, closing(sqlite3.connect(self.copy)) as target:
            source.backup(target)

    def restore(self) -> None:
        if self.in_place:
            with closing(sqlite3.connect(self.copy)) as source, closing(sqlite3.connect(self.file)) as target:
                source.backup(target)
            return
        fresh = Path(shutil.copy(self.copy, self.copy.with_suffix(".fresh")))
        self._remove_logs()
        fresh.replace(self.file)

    def flush(self) -> None:
        self._remove_logs()
        self.file.unlink()

    def _remove_logs(self) -> None:
        for suffix in ("-wal", "-shm"):
            self.file.with_name(self.file.name + suffix).unlink(missing_ok=True)


@dataclass
class RedisBackups:
    """Keys of the project, dumped."""

    url: str
    project: str
    dumped: dict[bytes, bytes] = field(default_factory=dict)

    def _keys(self, client: Any) -> list[bytes]:
        return list(client.scan_iter(f"*{self.project}".encode()))

    def _client(self) -> Any:
        import redis

        return redis.Redis.from_url(self.url)

    def take(self) -> None:
        with self._client() as client:
            self.dumped = {key: client.dump(key) for key in self._keys(client)}

    def restore(self) -> None:
        with self._client() as client, client.pipeline() as pipe:
            for key in self._keys(client):
                pipe.delete(key)
            for key, value in self.dumped.items():
                pipe.restore(key, 0, value)
            pipe.execute()

    def flush(self) -> None:
        self.dumped.clear()
        self.restore()


@dataclass
class PostgresBackups:
    """Tables of the project, copied."""

    url: str
    project: str

    @contextmanager
    def _tables(self) -> Iterator[tuple[Any, list[str]]]:
        import psycopg

        with psycopg.connect(self.url) as connection:
            found = connection.execute(
                "SELECT tablename FROM pg_tables WHERE tablename LIKE %s", [f"{self.project}\\_%"]
            ).fetchall()
            yield connection, [name for (name,) in found]

    def take(self) -> None:
        with self._tables() as (connection, tables):
            connection.execute(f'DROP SCHEMA IF EXISTS "copy_{self.project}" CASCADE')
            connection.execute(f'CREATE SCHEMA "copy_{self.project}"')
            for table in tables:
                connection.execute(f'CREATE TABLE "copy_{self.project}"."{table}" AS TABLE "{table}"')

    def restore(self) -> None:
        with self._tables() as (connection, tables):
            for table in tables:
                connection.execute(f'TRUNCATE "{table}"')
                connection.execute(f'INSERT INTO "{table}" SELECT * FROM "copy_{self.project}"."{table}"')

    def flush(self) -> None:
        with self._tables() as (connection, tables):
            for table in tables:
                connection.execute(f'DROP TABLE "{table}"')

    def close(self) -> None:
        with self._tables() as (connection, _):
            connection.execute(f'DROP SCHEMA IF EXISTS "copy_{self.project}" CASCADE')


@dataclass
class World:
    """A shop, copies of its store, and servers of it."""

    shop: Any
    backups: Any
    number: int = 0

    @contextmanager
    def serving(self, **options: Any) -> Iterator["Server"]:
        """What a server does with events, without the network around it."""
        from rf_platform.features.store import open_store
        from rf_serving.events import EventIntake

        server = Server(self)
        server.intake = EventIntake(
            self.shop.settings,
            open_store(self.shop.settings),
            server.registry,
            tell=lambda fault: server.faults.append(fault),
            **options,
        )
        try:
            yield server
        finally:
            server.intake.close()

    def events(self, count: int, users: list[int]) -> list[Event]:
        """The next events, in the order of time."""
        made = []
        for _ in range(count):
            self.number += 1
            n = self.number
            made.append(
                Event(
                    event_id=f"w{n}",
                    user_id=str(users[n % len(users)]),
                    item_id=str(100 + n % 30),
                    timestamp_us=T0 + n * 700_000,
                )
            )
        return made

    def rows(self) -> dict[tuple[str, int], Any]:
        """Every row of some users, as the store has it; a seen set without the time at which it was written."""
        from rf_platform.features.read import read_spec
        from rf_platform.features.seen import ITEMS, VIEW, seen_view
        from rf_serving.retrieval.online_store import EntityKeys, close_online, open_online

        store = self.shop.store
        views = [store.get_feature_view(name) for name in ("interaction_context", "user_profile")]
        views.append(seen_view(store, read_spec(store, "retrieval")))
        online = open_online(store.config)
        found: dict[tuple[str, int], Any] = {}
        try:
            for view in views:
                keys = EntityKeys(store, view)
                names = [feature.name for feature in view.features]
                asked = [keys.of(user)[1] for user in USERS]  # type: ignore[index]
                for user, (moment, row) in zip(
                    USERS, online.online_read(store.config, view, asked, names), strict=True
                ):
                    values = {name: value.SerializeToString() for name, value in (row or {}).items()}
                    if not any(values.values()):
                        continue
                    found[view.name, user] = (None if ITEMS in values and view.name == VIEW else moment, values)
        finally:
            close_online(online)
        return found

    def marks(self) -> Any:
        from rf_platform.features.store_marks import StoreMarks
        from rf_serving.retrieval.online_store import close_online, open_online

        online = open_online(self.shop.store.config)
        try:
            return StoreMarks(self.shop.store).read(online)
        finally:
            close_online(online)

    @property
    def log(self) -> EventLog:
        log: EventLog = self.shop.log
        return log


@dataclass
class Server:
    """An intake, and what it said."""

    world: World
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)
    faults: list[StoreFault] = field(default_factory=list)
    intake: Any = None

    def record(self, events: list[Event]) -> None:
        statuses = asyncio.run(self.intake.record(events, lambda item: True))
        assert {status.outcome for status in statuses} <= {EventStatus.RECORDED}

    def settle(self, seconds: float = 90.0) -> None:
        """Wait until the store has all events, says so itself, and nothing is known to be wrong with it."""
        end = time.monotonic() + seconds
        with closing(self.world.log) as log:
            while True:
                state, head = log.state(), log.head()
                if state.applied < head or state.fault is not StoreFault.NONE:
                    assert time.monotonic() < end, (state, head)
                    time.sleep(0.02)
                    continue
                marks = self.world.marks()
                sound = marks.load is not None and marks.load.epoch == state.epoch and marks.position >= head
                if sound and state.applied == head and state.fault is StoreFault.NONE:
                    return
                assert time.monotonic() < end, (marks, state, head)
                time.sleep(0.05)

    def wait_for(self, fault: StoreFault, seconds: float = 30.0) -> None:
        end = time.monotonic() + seconds
        while not self.faults or self.faults[-1] is not fault:
            assert time.monotonic() < end, self.faults[-3:]
            time.sleep(0.02)

    def metric(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(name, labels) or 0.0


@pytest.fixture(params=ENGINES)
def world(request: pytest.FixtureRequest, tmp_path: Path, open_shop: Callable[..., Any]) -> Iterator[World]:
    """A fresh workspace on each engine."""
    yield from _world(request.param, tmp_path, open_shop)


@pytest.fixture
def small(tmp_path: Path, open_shop: Callable[..., Any]) -> Iterator[World]:
    """One on SQLite, for what does not depend on the engine."""
    yield from _world("sqlite", tmp_path, open_shop)


def _world(engine: str, tmp_path: Path, open_shop: Callable[..., Any]) -> Iterator[World]:
    from rf_platform.features.read import read_spec
    from rf_platform.features.seen_rows import drop_seen
    from rf_platform.features.store import open_store, quiet

    url = None
    if engine != "sqlite" and not (url := os.environ.get(engine)):
        pytest.skip(f"{engine} is not set")
    shop = open_shop(tmp_path / "home", url, users=6, items=30, events=5)
    backups: Any
    if url is None:
        backups = SqliteBackups(shop.settings.workspace.feast / "online.db")
    elif urlsplit(url).scheme.startswith("redis"):
        backups = RedisBackups(url, shop.store.project)
    else:
        backups = PostgresBackups(url, shop.store.project)
    yield World(shop, backups)
    if url:
        with quiet():
            store = open_store(shop.settings)
            drop_seen(store, read_spec(store, "retrieval"))
            store.teardown()
        if isinstance(backups, PostgresBackups):
            backups.close()


def test_restored_while_it_is_served(world: World, logs: Any) -> None:
    """Twice: by itself, and with events that come before anything else is noticed."""
    said = len(logs.entries)
    with world.serving() as server:
        server.record(world.events(40, USERS))
        server.settle()
        world.backups.take()
        server.record(world.events(25, USERS))
        server.settle()
        whole = world.rows()
        assert len(whole) == 3 * len(USERS) - 2  # the new users have no profile
        world.backups.restore()
        assert world.rows() != whole
        server.wait_for(StoreFault.BEHIND)
        server.settle()
        assert world.rows() == whole
        assert server.metric("rf_store_resets_total", fault="behind") == 1
        assert server.metric("rf_events_reapplied_total") == 25
        server.wait_for(StoreFault.NONE)
        assert server.metric("rf_store_fault") == 0
        assert server.metric("rf_events_position", of="store") == server.metric("rf_events_position", of="log") == 65

        world.backups.restore()
        server.record(world.events(3, [1, 501]))
        server.settle()
        assert server.metric("rf_store_resets_total", fault="behind") == 2
        found = world.rows()
    materialize(world.shop.settings)  # from scratch, of table and log
    assert world.rows() == found
    events = [entry["event"] for entry in logs.entries[said:]]
    assert events.count("online store went back") == 2
    assert events.count("online store is whole again") == 2


def test_restored_while_nothing_runs(world: World) -> None:
    with world.serving() as server:
        server.record(world.events(30, USERS))
        server.settle()
        world.backups.take()
        server.record(world.events(20, USERS))
        server.settle()
        whole = world.rows()
    world.backups.restore()
    assert world.rows() != whole
    with world.serving() as server:
        server.settle()
        assert world.rows() == whole
        assert server.metric("rf_store_resets_total", fault="behind") == 1
        server.record(world.events(10, USERS))
        server.settle()
        found = world.rows()
    materialize(world.shop.settings)
    assert world.rows() == found


def test_emptied_while_it_is_served(world: World, logs: Any) -> None:
    """It is loaded again by the server; meanwhile no event is put on top of nothing."""
    said = len(logs.entries)
    with world.serving() as server:
        server.record(world.events(40, USERS))
        server.settle()
        world.backups.flush()
        server.record(world.events(5, [1]))
        server.wait_for(StoreFault.UNLOADED)
        with closing(world.log) as log:
            assert log.state().applied == 40
        server.settle()
        server.wait_for(StoreFault.NONE)
        found = world.rows()
        history = world.shop.online([1])[1]
        assert len(history["item_ids"]) == 8
        assert server.metric("rf_store_resets_total", fault="unloaded") == 1
        server.record(world.events(2, [502]))
        server.settle()
        later = world.rows()
        end = time.monotonic() + 30
        while not any(entry["event"] == "online store was loaded again" for entry in logs.entries[said:]):
            assert time.monotonic() < end
            time.sleep(0.05)
    materialize(world.shop.settings)
    assert world.rows() == later
    assert {key: row for key, row in later.items() if key[1] != 502} == {
        key: row for key, row in found.items() if key[1] != 502
    }
    assert len(found) == 3 * len(USERS) - 2
    events = [entry["event"] for entry in logs.entries[said:]]
    assert events.count("online store went back") == 1


def test_restored_to_before_a_materialisation(world: World) -> None:
    """The load itself is an old one: events since it do not make up for what the tables changed."""
    import pyarrow.parquet as pq

    with world.serving() as server:
        server.record(world.events(20, USERS))
        server.settle()
        world.backups.take()
        table = pq.read_table(world.shop.interactions)
        pq.write_table(table.slice(0, table.num_rows - 3), world.shop.interactions)
        materialize(world.shop.settings)
        server.record(world.events(5, USERS))
        server.settle()
        whole = world.rows()
        world.backups.restore()
        server.wait_for(StoreFault.UNLOADED)
        server.settle()
        assert world.rows() == whole
        assert server.metric("rf_store_resets_total", fault="unloaded") == 1


def test_restored_to_a_state_whose_events_have_left_sql(world: World) -> None:
    """They are read from the files of the log."""
    with world.serving() as server:
        server.record(world.events(10, USERS))
        server.settle()
        world.backups.take()
        server.record(world.events(15, USERS))
        server.settle()
        seal(world.shop.settings)
        server.record(world.events(3, USERS))
        server.settle()
        whole = world.rows()
        with closing(world.log) as log:
            assert log.first() == 26
        world.backups.restore()
        server.wait_for(StoreFault.BEHIND)
        server.settle()
        assert world.rows() == whole
        assert server.metric("rf_events_reapplied_total") == 18


def serve(settings: Settings, pipe: Any, dies: str) -> None:
    """A process with an applier, which may be killed between the rows of a batch and its mark, or between mark and note."""
    from rf_platform.features.store import open_store
    from rf_platform.features.store_marks import StoreMarks
    from rf_serving.events import EventIntake

    intake = EventIntake(settings, open_store(settings))
    pipe.send("ready")
    while (asked := pipe.recv()) is not None:
        if asked == "die":
            target = StoreMarks if dies == "rows" else EventLog
            name = "write_applied" if dies == "rows" else "advance"
            setattr(target, name, lambda *_: os.kill(os.getpid(), signal.SIGKILL))
            pipe.send("ok")
            continue
        events = [Event.FromString(each) for each in asked]
        statuses = asyncio.run(intake.record(events, lambda item: True))
        pipe.send([status.outcome for status in statuses])
    intake.close()


class Process:
    """A server process."""

    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["rf_serving.events", "feast", "feast.infra.online_stores.sqlite"])

    def __init__(self, settings: Settings, dies: str = "rows") -> None:
        self.pipe, theirs = self.context.Pipe()
        self.process = self.context.Process(target=serve, args=(settings, theirs, dies), daemon=True)
        self.process.start()
        theirs.close()
        assert self.pipe.poll(120)
        assert self.pipe.recv() == "ready"

    def record(self, events: list[Event]) -> None:
        self.pipe.send([each.SerializeToString() for each in events])
        assert self.pipe.poll(60)
        assert set(self.pipe.recv()) == {EventStatus.RECORDED}

    def kill(self) -> None:
        assert self.process.pid
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.join()

    def close(self) -> None:
        self.pipe.send(None)
        self.process.join(60)
        assert self.process.exitcode == 0


@pytest.mark.parametrize("dies", ["rows", "mark"])
def test_kill_9_between_rows_and_mark_and_a_restore(world: World, dies: str) -> None:
    """What was written and not marked counts once, and a copy of the store in that state is put right as well."""
    process = Process(world.shop.settings, dies)
    process.record(world.events(20, USERS))
    Server(world).settle()
    process.pipe.send("die")
    assert process.pipe.recv() == "ok"
    process.pipe.send([each.SerializeToString() for each in world.events(5, USERS)])
    process.process.join(60)
    assert process.process.exitcode == -signal.SIGKILL
    marks = world.marks()
    assert marks.position == (20 if dies == "rows" else 25)
    world.backups.take()
    with world.serving() as server:
        server.settle()
        server.record(world.events(12, USERS))
        server.settle()
        whole = world.rows()
        assert server.metric("rf_store_resets_total", fault="behind") == 0
        world.backups.restore()
        server.wait_for(StoreFault.BEHIND)
        server.settle()
        assert world.rows() == whole
    materialize(world.shop.settings)
    assert world.rows() == whole


def test_restored_under_two_processes_of_which_one_is_killed(world: World) -> None:
    processes = [Process(world.shop.settings), Process(world.shop.settings)]
    processes[0].record(world.events(10, USERS))
    Server(world).settle()
    world.backups.take()
    for round_ in range(3):
        for n in range(4):
            processes[n % 2].record(world.events(6, USERS))
        if round_ == 1:
            processes[0].kill()
            processes[0] = Process(world.shop.settings)
        world.backups.restore()
        processes[1].record(world.events(2, USERS))
        processes[0].record(world.events(2, USERS))
    Server(world).settle()
    found = world.rows()
    for process in processes:
        process.close()
    materialize(world.shop.settings)
    assert world.rows() == found


def test_an_sqlite_store_that_is_restored_in_place(small: World) -> None:
    small.backups.in_place = True
    with small.serving() as server:
        server.record(small.events(20, USERS))
        server.settle()
        small.backups.take()
        server.record(small.events(10, USERS))
        server.settle()
        whole = small.rows()
        small.backups.restore()
        server.wait_for(StoreFault.BEHIND)
        server.settle()
        assert small.rows() == whole


def test_without_tables_it_waits_and_says_what_to_do(small: World, logs: Any) -> None:
    """Nothing is put on top of what is not there, and a materialisation by hand is enough."""
    tables = small.shop.settings.workspace.tables
    away = tables.with_name("away")
    with small.serving() as server:
        server.record(small.events(20, USERS))
        server.settle()
        whole = small.rows()
    small.backups.flush()
    tables.rename(away)
    said = len(logs.entries)
    with small.serving() as server:
        server.wait_for(StoreFault.UNLOADED)
        server.record(small.events(3, [1]))
        time.sleep(1.0)
        with closing(small.log) as log:
            assert (log.state().applied, log.state().fault) == (20, StoreFault.UNLOADED)
        (told,) = [e for e in logs.entries[said:] if e["event"] == "online store went back"]
        assert "rf features materialize" in told["answer"]
        away.rename(tables)
        materialize(small.shop.settings)
        server.settle()
        found = small.rows()
    assert {key: row for key, row in found.items() if key[1] != 1} == {
        key: row for key, row in whole.items() if key[1] != 1
    }
    assert small.shop.online([1])[1]["item_ids"][-3:] == [100 + n % 30 for n in (21, 22, 23)]


def test_a_load_that_fails_is_said_and_tried_again_later(small: World, logs: Any) -> None:
    said = len(logs.entries)
    users = small.shop.settings.workspace.tables / "users.parquet"
    with small.serving() as server:
        server.record(small.events(5, USERS))
        server.settle()
        kept = users.read_bytes()
        users.write_bytes(b"no table")
        small.backups.flush()
        end = time.monotonic() + 60
        while not (failed := [e for e in logs.entries[said:] if e["event"] == "online store cannot be loaded again"]):
            assert time.monotonic() < end
            time.sleep(0.1)
        assert "users.parquet" in failed[0]["error"]
        assert "rf features materialize" in failed[0]["remedy"]
        users.write_bytes(kept)
        materialize(small.shop.settings)
        server.settle()
        assert len(failed) == 1


def test_a_log_that_was_restored_is_not_followed(small: World, logs: Any) -> None:
    """Not at once, and not when its new events have numbers that the store has of others."""
    file = small.shop.settings.workspace.events / "log.db"
    copy = file.with_suffix(".backup")
    with small.serving() as server:
        server.record(small.events(10, USERS))
        server.settle()
    with closing(sqlite3.connect(file)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)
    with small.serving() as server:
        server.record(small.events(5, USERS))
        server.settle()
    before = small.rows()
    for suffix in ("-wal", "-shm"):
        file.with_name(file.name + suffix).unlink(missing_ok=True)
    copy.replace(file)
    said = len(logs.entries)
    with small.serving() as server:
        server.wait_for(StoreFault.FOREIGN)
        server.record(small.events(8, USERS))
        time.sleep(1.5)
        assert small.rows() == before
        with closing(small.log) as log:
            assert (log.state().applied, log.head()) == (10, 18)
        assert server.metric("rf_store_fault") == 3
        (told,) = [e for e in logs.entries[said:] if e["event"] == "online store went back"]
        assert "up to number 15" in told["detail"]
    with small.serving() as server:  # the numbers fit now
        server.wait_for(StoreFault.FOREIGN)
        assert small.rows() == before
        (load,) = [loaded for loaded in materialize(small.shop.settings) if loaded.view == "rf_seen"]
        assert any("another one" in text for text in load.warnings)
        server.settle()
        server.wait_for(StoreFault.NONE)
    found = small.rows()
    materialize(small.shop.settings)
    assert small.rows() == found != before


@pytest.mark.redis
def test_the_store_of_another_workspace_is_not_written_to(tmp_path: Path, open_shop: Callable[..., Any]) -> None:
    """Two workspaces of one project name with one Redis between them."""
    url = os.environ.get("RF_TEST_REDIS_URL")
    if not url:
        pytest.skip("RF_TEST_REDIS_URL is not set")
    worlds = _world("RF_TEST_REDIS_URL", tmp_path, open_shop)
    first = next(worlds)
    mine = first.shop.settings
    other = mine.model_copy(update={"home": tmp_path / "other"})
    shutil.copytree(mine.workspace.root, other.workspace.root, ignore=shutil.ignore_patterns("events", "feast"))
    from rf_platform.features.apply import apply_definitions
    from rf_platform.features.store import open_store

    apply_definitions(other)
    second = World(type(first.shop)(other, open_store(other)), first.backups)
    with first.serving() as server:
        server.record(first.events(10, USERS))
        server.settle()
    before = first.rows()
    with second.serving() as server:
        server.record(second.events(4, USERS))
        server.wait_for(StoreFault.FOREIGN)
        time.sleep(1.0)
        assert first.rows() == before
        (load,) = [loaded for loaded in materialize(other) if loaded.view == "rf_seen"]
        assert any("another workspace" in text for text in load.warnings)
        server.settle()
        taken = second.rows()
        assert taken != before
    with first.serving() as server:
        server.wait_for(StoreFault.FOREIGN)
        assert second.rows() == taken
    with pytest.raises(StopIteration):
        next(worlds)


def test_a_store_of_an_earlier_version_gets_marks_and_is_watched_from_then_on(small: World) -> None:
    from rf_platform.features.store_marks import StoreMarks

    with small.serving() as server:
        server.record(small.events(10, USERS))
        server.settle()
        whole = small.rows()
    store = small.shop.store
    StoreMarks(store).drop(store._get_provider().online_store)
    store._get_provider().online_store._conn = None
    with sqlite3.connect(small.shop.settings.workspace.events / "log.db") as log:
        log.execute("DELETE FROM rf_event_state WHERE name NOT IN ('format', 'applied', 'redo_to', 'reset')")
    log.close()
    with small.serving() as server:
        server.settle()
        assert small.rows() == whole
        assert server.metric("rf_store_resets_total", fault="unloaded") == 0
        small.backups.take()
        server.record(small.events(6, USERS))
        server.settle()
        whole = small.rows()
        small.backups.restore()
        server.wait_for(StoreFault.BEHIND)
        server.settle()
        assert small.rows() == whole


def test_a_materialisation_that_was_killed_before_it_told_the_log(
    small: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rf_platform.features import materialize as module

    with small.serving() as server:
        server.record(small.events(10, USERS))
        server.settle()
    with monkeypatch.context() as patch:
        patch.setattr(module, "note_materialized", lambda *_: None)
        materialize(small.shop.settings)
    with closing(small.log) as log:
        assert small.marks().load.epoch == log.state().pending != log.state().epoch
    with small.serving() as server:
        server.record(small.events(5, USERS))
        server.settle()
        assert server.faults[-1] is StoreFault.NONE
        assert StoreFault.FOREIGN not in server.faults
        found = small.rows()
    materialize(small.shop.settings)
    assert small.rows() == found


def test_some_views_do_not_make_a_store_whole(small: World) -> None:
    with small.serving(apply=False):
        pass
    small.backups.flush()
    loaded = materialize(small.shop.settings, ["user_profile"])
    assert any("load all views" in text for text in loaded[-1].warnings)
    assert small.marks().load is None
    materialize(small.shop.settings)
    before = small.marks().load
    assert materialize(small.shop.settings, ["user_profile"])[-1].warnings == []
    after = small.marks().load
    assert after.epoch > before.epoch
    assert after.sealed == before.sealed


def test_what_is_said_of_it(small: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """`rf events show` and `rf doctor`: whole, behind, emptied, and of another log."""
    from typer.testing import CliRunner

    from rf_platform.cli.app import app
    from rf_platform.doctor.check import Status
    from rf_platform.doctor.position import check_store_position

    settings = small.shop.settings
    monkeypatch.setenv("RF_HOME", str(settings.home))
    monkeypatch.setenv("RF_FEATURE_REPO", str(settings.feature_repo))

    def said() -> tuple[str, dict[str, Any], Status]:
        text = CliRunner().invoke(app, ["events", "show"])
        assert text.exit_code == 0, text.output
        told = json.loads(CliRunner().invoke(app, ["events", "show", "--json"]).stdout)
        return text.output, told["store"], check_store_position(settings).status

    with small.serving() as server:
        server.record(small.events(10, USERS))
        server.settle()
        small.backups.take()
        server.record(small.events(7, USERS))
        server.settle()
    text, store, status = said()
    assert (store["standing"], store["position"], status) == ("current", 17, Status.OK)
    assert "up to number 17, 0 behind" in text
    small.backups.restore()
    text, store, status = said()
    assert (store["standing"], store["position"], status) == ("behind", 10, Status.WARN)
    assert "up to number 10, 7 behind" in text
    small.backups.flush()
    text, store, status = said()
    assert (store["standing"], status) == ("unloaded", Status.WARN)
    assert not small.backups.file.exists()
    assert "no mark" in text
    small.backups.restore()
    (settings.workspace.events / "log.db").unlink()
    text, store, status = said()
    assert (store["standing"], status) == ("foreign", Status.FAIL)
    assert "another workspace" in text
