"""Workspaces whose online store can be copied and brought back, on each engine; servers and server processes of them."""

import asyncio
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
from typing import Any, ClassVar, Protocol
from urllib.parse import urlsplit

import pytest
from prometheus_client import CollectorRegistry

from rf_platform.data.event_log import EventLog, StoreFault
from rf_platform.settings import Settings, get_settings
from rf_protos.v1.feedback_pb2 import Event, EventStatus

SECOND = 1_000_000
T0 = 1_705_740_000_000_000
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
    users: ClassVar = [1, 2, 3, 501, 502]
    """The last two are not in the tables."""

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
        from rf_serving.user_features.online_store import EntityKeys, close_online, open_online

        store = self.shop.store
        views = [store.get_feature_view(name) for name in ("interaction_context", "user_profile")]
        views.append(seen_view(store, read_spec(store, "retrieval")))
        online = open_online(store.config)
        found: dict[tuple[str, int], Any] = {}
        try:
            for view in views:
                keys = EntityKeys(store, view)
                names = [feature.name for feature in view.features]
                asked = [keys.of(user)[1] for user in self.users]  # type: ignore[index]
                for user, (moment, row) in zip(
                    self.users, online.online_read(store.config, view, asked, names), strict=True
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
        from rf_serving.user_features.online_store import close_online, open_online

        online = open_online(self.shop.store.config)
        try:
            return StoreMarks(self.shop.store).read(online)
        finally:
            close_online(online)

    def settle(self, seconds: float = 300.0) -> None:
        """Wait until the store has all events, says so itself, and nothing is known to be wrong with it."""
        end = time.monotonic() + seconds
        with closing(self.log) as log:
            while True:
                state, head = log.state(), log.head()
                if state.applied < head or state.fault is not StoreFault.NONE:
                    assert time.monotonic() < end, (state, head)
                    time.sleep(0.02)
                    continue
                marks = self.marks()
                sound = marks.load is not None and marks.load.epoch == state.epoch and marks.position >= head
                if sound and state.applied == head and state.fault is StoreFault.NONE:
                    return
                assert time.monotonic() < end, (marks, state, head)
                time.sleep(0.05)

    def other(self, shop: Any) -> "World":
        """Another workspace with the same store."""
        return World(shop, self.backups)

    def process(self, dies: str = "rows") -> "Process":
        """Start a server process."""
        return Process(self.shop.settings, dies)

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

    def settle(self) -> None:
        """See :meth:`World.settle`."""
        self.world.settle()

    def wait_for(self, fault: StoreFault, seconds: float = 30.0) -> None:
        end = time.monotonic() + seconds
        while not self.faults or self.faults[-1] is not fault:
            assert time.monotonic() < end, self.faults[-3:]
            time.sleep(0.02)

    def metric(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(name, labels) or 0.0


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


@pytest.fixture(autouse=True)
def own_settings() -> Iterator[None]:
    """Commands read the environment of their test."""
    get_settings.cache_clear()
    yield
    get_settings.cache_clear()


@pytest.fixture(autouse=True)
def urgent_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loads have their full share of a machine that is busy with other tests."""
    monkeypatch.setattr("rf_serving.events.store_reload._NICENESS", 0)


@pytest.fixture(params=ENGINES)
def world(request: pytest.FixtureRequest, tmp_path: Path, open_shop: Callable[..., Any]) -> Iterator[World]:
    """A fresh workspace on each engine."""
    yield from _world(request.param, tmp_path, open_shop)


@pytest.fixture
def small(tmp_path: Path, open_shop: Callable[..., Any]) -> Iterator[World]:
    """One on SQLite, for what does not depend on the engine."""
    yield from _world("sqlite", tmp_path, open_shop)


@pytest.fixture
def on_redis(tmp_path: Path, open_shop: Callable[..., Any]) -> Iterator[World]:
    """One on Redis, which several workspaces can share."""
    yield from _world("RF_TEST_REDIS_URL", tmp_path, open_shop)


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
