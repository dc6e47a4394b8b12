"""Workspaces with a feature store, on each engine, and no model: events need none."""

import os
import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event as Flag
from threading import Thread
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from uuid import uuid4

import numpy as np
import pyarrow.parquet as pq
import pytest

from rf_platform.data.event_log import Event, EventLog, EventParts, has_clock
from rf_platform.settings import Settings

if TYPE_CHECKING:
    from feast import FeatureStore

    from rf_serving.events.online_history import OnlineHistory

REPOSITORY = Path(__file__).parents[3] / "feature_repo" / "movielens"
ENGINES = [
    "sqlite",
    pytest.param("RF_TEST_REDIS_URL", marks=pytest.mark.redis, id="redis"),
    pytest.param("RF_TEST_POSTGRES_URL", marks=pytest.mark.postgres, id="postgres"),
]


@dataclass
class Shop:
    """A workspace whose features are applied and materialised."""

    settings: Settings
    store: "FeatureStore"

    @property
    def log(self) -> EventLog:
        return EventLog.open(self.settings)

    @property
    def interactions(self) -> Path:
        return self.settings.workspace.tables / "interactions.parquet"

    def history(self, *, tables: bool = True) -> "OnlineHistory":
        """What brings events into the online store; without tables, as on a host that has none."""
        from rf_platform.features.read import read_definitions
        from rf_serving.events.history import HistoryLayout
        from rf_serving.events.online_history import OnlineHistory
        from rf_serving.events.online_seen import OnlineSeen
        from rf_serving.events.reader import Columns
        from rf_serving.events.rebuild import HistoryRebuilder

        definitions = read_definitions(self.store, "retrieval")
        clock = has_clock(self.settings)
        columns = Columns.of(definitions.spec, self.interactions)
        parts = EventParts(self.settings.workspace.events)
        rebuilder = HistoryRebuilder(self.store, definitions, self.log, parts, self.interactions, clock=clock)
        layout = HistoryLayout(definitions.spec, clock=clock, single=columns.single)
        return OnlineHistory(
            self.store, layout, rebuilder if tables else None, OnlineSeen(self.store, definitions.spec)
        )

    def online(self, users: list[int]) -> dict[int, dict[str, Any]]:
        """The stored history of each user, as Feast gives it."""
        from rf_platform.features.store import quiet

        names = [f"interaction_context:{f.name}" for f in self.store.get_feature_view("interaction_context").features]
        with quiet():
            answer = self.store.get_online_features(features=names, entity_rows=[{"user_id": u} for u in users])
        columns = answer.to_dict()
        return {u: {name: columns[name][i] for name in columns if name != "user_id"} for i, u in enumerate(users)}

    def seen(self, users: list[int]) -> dict[int, set[tuple[int, str]]]:
        """The stored seen set of each user: pairs of item and event type."""
        from rf_platform.features.read import read_spec
        from rf_platform.features.seen import COUNTS, ITEMS, TYPES, decode_ids, seen_view
        from rf_serving.user_features.online_store import EntityKeys, close_online, open_online

        view = seen_view(self.store, read_spec(self.store, "retrieval"))
        keys = EntityKeys(self.store, view)
        online = open_online(self.store.config)
        found = online.online_read(self.store.config, view, [keys.of(u)[1] for u in users], [ITEMS, TYPES, COUNTS])  # type: ignore[index]
        close_online(online)
        sets: dict[int, set[tuple[int, str]]] = {}
        for user, (_, row) in zip(users, found, strict=True):
            if not row or not row[ITEMS].WhichOneof("val"):
                sets[user] = set()
                continue
            types = np.repeat(list(row[TYPES].string_list_val.val), row[COUNTS].int64_list_val.val).tolist()
            sets[user] = set(zip(map(int, decode_ids(row[ITEMS])), types, strict=True))
            assert len(sets[user]) == len(types)
        return sets

    def forget_seen(self, user: int) -> None:
        """Leave the user without a seen set, as a store that an earlier version loaded."""
        from rf_platform.features.leftovers import remove_leftovers
        from rf_platform.features.read import read_spec
        from rf_platform.features.seen import seen_view
        from rf_serving.user_features.online_store import EntityKeys

        view = seen_view(self.store, read_spec(self.store, "retrieval"))
        keys = EntityKeys(self.store, view)
        kept = {keys.of(each)[0] for each in range(1000) if each != user}  # type: ignore[index]
        assert remove_leftovers(self.store, view, kept, None) == (1, 0)

    def expected_seen(self, users: list[int]) -> dict[int, set[tuple[int, str]]]:
        """What table and log have, by hand."""
        rows = pq.read_table(self.interactions).to_pylist()
        pairs = [(row["user_id"], row["item_id"], row["event_type"]) for row in rows]
        parts = EventParts(self.settings.workspace.events)
        with parts.reading() as files:
            for file in files:
                for row in pq.read_table(file).to_pylist():
                    pairs.append((int(row["__user"]), int(row["__item"]), row["event_type"]))
        sealed = parts.sealed
        for event in self.log.read(sealed, 100_000):
            pairs.append((int(event.user_id), int(event.item_id), event.values["event_type"]))
        return {user: {(item, kind) for who, item, kind in pairs if who == user} for user in users}


def _event(number: int, user: int, item: int, timestamp_us: int, **values: Any) -> Event:
    """An event as the reader makes it."""
    return Event(
        event_id=f"e{number}",
        user_id=str(user),
        item_id=str(item),
        timestamp_us=timestamp_us,
        values={"event_type": "rating", **values},
    )


class Proxy:
    """A way to a server that can be cut off, or hang."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._target = (str(parts.hostname), int(parts.port or 0))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = parts._replace(netloc=f"127.0.0.1:{self._listener.getsockname()[1]}").geturl()
        self._flowing = Flag()
        self._flowing.set()
        self._refusing = False
        self._sockets: list[socket.socket] = []
        Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Break all connections, and new ones at once."""
        self._refusing = True
        for each in self._sockets:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        self._sockets.clear()

    def hang(self) -> None:
        """Keep connections open and pass nothing on."""
        self._flowing.clear()

    def heal(self) -> None:
        """Work again."""
        self._refusing = False
        self._flowing.set()

    def close(self) -> None:
        self.cut()
        self._flowing.set()
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                if self._refusing:
                    client.close()
                    continue
                server = socket.create_connection(self._target)
                self._sockets += [client, server]
                for source, target in ((client, server), (server, client)):
                    Thread(target=self._pass, args=(source, target), daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError), source, target:
            while data := source.recv(65536):
                self._flowing.wait()
                target.sendall(data)


@pytest.fixture(scope="session")
def make_proxy() -> Callable[[str], Proxy]:
    """Make a way to a server that can be cut off: ``make_proxy(url)``."""
    return Proxy


@pytest.fixture(scope="session")
def event() -> Callable[..., Event]:
    """Make an event: ``event(number, user, item, timestamp_us, **values)``."""
    return _event


@pytest.fixture(scope="session")
def open_shop(write_tables: Callable[..., None]) -> Callable[..., Shop]:
    """Make a workspace: ``open_shop(home, url=None, **tables)``."""
    return lambda home, url=None, **tables: _open_shop(home, write_tables, url, **tables)


def _open_shop(home: Path, write_tables: Callable[..., None], url: str | None = None, **tables: int) -> Shop:
    """Make a workspace with a project of its own."""
    from rf_platform.features.apply import apply_definitions
    from rf_platform.features.materialize import materialize
    from rf_platform.features.store import open_store

    repository = home / "feature_repo"
    shutil.copytree(REPOSITORY, repository, ignore=shutil.ignore_patterns("__pycache__"))
    context = repository / "context.py"
    context.write_text(context.read_text().replace('"history_length": "50"', '"history_length": "8"'))
    yaml = repository / "feature_store.yaml"
    yaml.write_text(yaml.read_text().replace("project: movielens", f"project: t{uuid4().hex}"))
    write_tables(home / "tables", **{"users": 12, "items": 30, "events": 6, **tables})
    settings = Settings(home=home, feature_repo=repository, online_store_url=url)
    apply_definitions(settings)
    materialize(settings)
    return Shop(settings, open_store(settings))


@pytest.fixture(scope="module", params=ENGINES)
def shop(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, write_tables: Callable[..., None]
) -> Iterator[Shop]:
    """A workspace of the module on each engine; tests leave users to each other."""
    from rf_platform.features.read import read_spec
    from rf_platform.features.seen_rows import drop_seen
    from rf_platform.features.store import quiet

    url = None
    if request.param != "sqlite" and not (url := os.environ.get(request.param)):
        pytest.skip(f"{request.param} is not set")
    shop = _open_shop(tmp_path_factory.mktemp("shop"), write_tables, url)
    yield shop
    if url:
        with quiet():
            drop_seen(shop.store, read_spec(shop.store, "retrieval"))
            shop.store.teardown()
