"""Rows of the online store, read by key: all views and all users of a call in one round trip.

`FeatureStore.get_online_features` resolves names, builds a response of its own and copies every value several times: most of
its time is Python, not the store. Here keys and statements are made from what was resolved once. SQLite, PostgreSQL and
Redis are read as Feast 0.67 lays them out (:mod:`rf_platform.features.leftovers` does the same); any other online store goes
through Feast's own `online_read`, view by view.

Rows that are older than the ttl of their view are left out (:mod:`rf_platform.features.expiry`), by the engine itself where it is
one of SQL. Times are compared as the engine keeps them, SQLite's in whole seconds.
"""

import copy
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any

from rf_platform.features.expiry import now_us, oldest_alive
from rf_platform.features.online_table import StoreFile, has_table, table_name
from rf_platform.sql import literal
from rf_serving.user_features.online_store import WAIT_SECONDS, EntityKeys, close_online, open_online

if TYPE_CHECKING:
    from feast import FeatureStore, FeatureView
    from feast.protos.feast.types.Value_pb2 import Value

Row = dict[str, "Value"]
"""Values of one user by full name ``view__field``; what is not in the store is not there."""
_Read = Callable[[list[bytes], list[Any]], list[Row]]
_Views = Sequence[tuple["FeatureView", list[str]]]
_LOOK_AGAIN_SECONDS = 5.0
"""Interval at which a missing table is looked for."""


class OnlineRows:
    """Reads the rows of some fields of views with one entity.

    Keeps a connection of its own, which belongs to one thread; it is opened at the first read, and anew after a failure.
    """

    def __init__(
        self,
        store: "FeatureStore",
        fields: Sequence[tuple[str, str]],
        clock: Callable[[], int] = now_us,
        more: "tuple[FeatureView, list[str]] | None" = None,
    ) -> None:
        """Resolve views and key.

        Args:
            store: the feature store.
            fields: view and field names; all views have the same entity.
            clock: the present, in microseconds since 1970.
            more: a view of that entity with rows that never expire, and its fields, to be read where a call asks for it. Its
                table need not be there.
        """
        by_view: dict[str, list[str]] = {}
        for view, field in fields:
            by_view.setdefault(view, []).append(field)
        self._config, self._wait_seconds, self._clock = store.config, WAIT_SECONDS, clock
        self.is_local: bool = store.config.online_store.type == "sqlite"
        """Whether the store is a file that is read in less time than it takes to ask another thread for it."""
        self._views = [(store.get_feature_view(view), names) for view, names in by_view.items()]
        self._ttls = [(i, view.ttl) for i, (view, _) in enumerate(self._views) if view.ttl]
        self._more = more
        (first, _), *_ = [*self._views, *([more] if more else [])]
        self._keys = EntityKeys(store, first)
        self._read: _Read | None = None
        self._read_more: _Read | None = None
        self._look_at = 0.0
        self._online: Any = None
        self._file = StoreFile(store.config)
        self._opened: tuple[int, int] | None = None

    @property
    def ttls(self) -> dict[str, timedelta]:
        """Ttl of each view that has one, as of the definitions when it was resolved."""
        return {self._views[i][0].name: ttl for i, ttl in self._ttls}

    def connected(self, wait_seconds: float = WAIT_SECONDS) -> "OnlineRows":
        """Return one that reads the same over a connection of its own, for another thread.

        Args:
            wait_seconds: how long a read waits for a store that is locked or silent.
        """
        other = copy.copy(self)
        other._read, other._read_more, other._online, other._wait_seconds = None, None, None, wait_seconds
        return other

    def read(self, ids: Sequence[int | str], *, more: bool = False) -> list[Row]:
        """Return the row of each id, in order; an unknown id has an empty one. Each store raises errors of its own.

        Args:
            ids: of the entity.
            more: whether to read the further view as well, in the same round trip.
        """
        keys = [self._keys.of(each) for each in ids]
        asked = [i for i, key in enumerate(keys) if key is not None]
        rows: list[Row] = [{} for _ in ids]
        if not asked:
            return rows
        if self._read is not None and self.is_local and self._file.identity != self._opened:
            self.close()  # it was replaced
        if self._read is None:
            self._read = self._open()
        try:
            read = self._reading_more() if more else self._read
            found = read([keys[i][0] for i in asked], [keys[i][1] for i in asked])  # type: ignore[index]
        except Exception:
            self.close()
            raise
        for i, row in zip(asked, found, strict=True):
            rows[i] = row
        return rows

    def close(self) -> None:
        """Close the connection; the next read opens another."""
        self._read, self._read_more, online, self._online = None, None, self._online, None
        close_online(online)

    def _open(self) -> _Read:
        self._opened = self._file.identity
        self._online, self._look_at = open_online(self._config, self._wait_seconds), 0.0
        return self._reader(self._views)

    def _reading_more(self) -> _Read:
        """Return what reads all views, or, as long as the further one has no table, the others."""
        assert self._read is not None
        if self._read_more is None and self._more is not None and monotonic() >= self._look_at:
            if has_table(self._config, self._online, self._more[0]):
                self._read_more = self._reader([*self._views, self._more])
            self._look_at = monotonic() + _LOOK_AGAIN_SECONDS
        return self._read_more or self._read

    def _reader(self, views: _Views) -> _Read:
        config = self._config.online_store
        if not views:
            return lambda keys, _: [{} for _ in keys]
        match config.type:
            case "sqlite":
                return self._from_sqlite(self._online._get_conn(self._config), views)
            case "postgres" if config.conn_type.value == "singleton":
                with self._online._get_conn(self._config, autocommit=True) as connection:
                    return self._from_postgres(connection, views)
            case "redis" if config.client == "redis" and config.redis_type == "redis":
                return self._from_redis(self._online._get_client(config), views)
            case _:
                return partial(self._by_view, views)

    def _oldest(self) -> dict[int, datetime]:
        """Return the oldest event timestamp, UTC, that counts now, of the views with a ttl, by number."""
        if not self._ttls:
            return {}
        moment_us = self._clock()
        return {i: oldest_alive(moment_us, ttl) for i, ttl in self._ttls}

    def _tables(self, views: _Views) -> list[tuple[str, list[str]]]:
        return [(table_name(self._config, view), names) for view, names in views]

    def _from_sqlite(self, connection: Any, views: _Views) -> _Read:
        # Where all fields of a view are asked for, it costs half to ask for the key alone: the index is searched once.
        tables = [
            (table, [] if len(fields) == len(view.features) else fields)
            for (table, fields), (view, _) in zip(self._tables(views), views, strict=True)
        ]
        expiring = [i for i, _ in self._ttls]

        def statement(keys: int) -> str:
            return " UNION ALL ".join(
                f"SELECT {tag}, entity_key, feature_name, value FROM {table} WHERE entity_key IN ({_marks(keys)})"
                + (f" AND feature_name IN ({_marks(len(fields))})" if fields else "")
                + (" AND event_ts >= ?" if tag in expiring else "")
                for tag, (table, fields) in enumerate(tables)
            )

        single = statement(1)

        def read(keys: list[bytes], _: list[Any]) -> list[Row]:
            # Feast writes the time without its zone, UTC, as if it were the machine's own; so is what it is compared with.
            since = {tag: (oldest.replace(tzinfo=None).timestamp(),) for tag, oldest in self._oldest().items()}
            parameters = [
                value for tag, (_, fields) in enumerate(tables) for value in (*keys, *fields, *since.get(tag, ()))
            ]
            found = connection.execute(single if len(keys) == 1 else statement(len(keys)), parameters).fetchall()
            return _rows(views, keys, found)

        return read

    def _from_postgres(self, connection: Any, views: _Views) -> _Read:
        tables = self._tables(views)
        expiring = [i for i, _ in self._ttls]

        def statement(condition: str) -> bytes:
            return " UNION ALL ".join(
                f"SELECT {tag}, entity_key, feature_name, value FROM {_percents(table)} "
                f"WHERE {condition} AND feature_name IN ({', '.join(_percents(literal(field)) for field in fields)})"
                + (" AND event_ts >= %s" if tag in expiring else "")
                for tag, (table, fields) in enumerate(tables)
            ).encode()

        # For `= ANY` of an unknown number of keys the planner may prefer to read the whole table.
        single, several = statement("entity_key = %s"), statement("entity_key = ANY(%s)")

        def read(keys: list[bytes], _: list[Any]) -> list[Row]:
            # Feast writes the time without its zone, UTC, and the session reads it in its own; so is what it is compared with.
            since = {tag: (oldest.replace(tzinfo=None),) for tag, oldest in self._oldest().items()}
            one, asked = len(keys) == 1, keys[0] if len(keys) == 1 else keys
            parameters = [value for tag in range(len(tables)) for value in (asked, *since.get(tag, ()))]
            # Binary results: bytea as text would be decoded from hex.
            with connection.cursor(binary=True) as cursor:
                cursor.execute(single if one else several, parameters)
                return _rows(views, keys, cursor.fetchall())

        return read

    def _from_redis(self, client: Any, views: _Views) -> _Read:
        from feast.infra.online_stores.helpers import _mmh3, compute_versioned_name
        from feast.protos.feast.types.Value_pb2 import Value
        from google.protobuf.timestamp_pb2 import Timestamp

        versioned = self._config.registry.enable_online_feature_view_versioning
        project = self._config.project.encode()
        # All views of an entity lie in one hash, each with the time of its row.
        versioned_names = [compute_versioned_name(view, versioned) for view, _ in views]
        names = [f"{view.name}__{field}" for view, fields in views for field in fields]
        hashed: list[Any] = [
            _mmh3(f"{name}:{field}")
            for name, (_, fields) in zip(versioned_names, views, strict=True)
            for field in fields
        ]
        hashed += [f"_ts:{versioned_names[i]}" for i, _ in self._ttls]

        def row(found: list[bytes | None], oldest: dict[int, datetime]) -> Row:
            # An empty text is a value that was written as missing.
            held = {n: Value.FromString(v) for n, v in zip(names, found, strict=False) if v is not None}
            for (i, since), stored in zip(oldest.items(), found[len(names) :], strict=True):
                if stored is not None and Timestamp.FromString(stored).ToDatetime(UTC) < since:
                    view, fields = views[i]
                    for field in fields:
                        held.pop(f"{view.name}__{field}", None)
            return held

        def read(keys: list[bytes], _: list[Any]) -> list[Row]:
            oldest = self._oldest()
            if len(keys) == 1:
                return [row(client.hmget(keys[0] + project, hashed), oldest)]
            with client.pipeline(transaction=False) as pipe:
                for key in keys:
                    pipe.hmget(key + project, hashed)
                return [row(found, oldest) for found in pipe.execute()]

        return read

    def _by_view(self, views: _Views, _: list[bytes], keys: list[Any]) -> list[Row]:
        rows: list[Row] = [{} for _ in keys]
        oldest = self._oldest()
        for i, (view, fields) in enumerate(views):
            for row, (moment, found) in zip(
                rows, self._online.online_read(self._config, view, keys, list(fields)), strict=True
            ):
                if i in oldest and moment is not None and moment.replace(tzinfo=UTC) < oldest[i]:
                    continue
                row.update({f"{view.name}__{name}": (found or {})[name] for name in fields if name in (found or {})})
        return rows


def _rows(views: _Views, keys: list[bytes], found: Sequence[tuple[int, Any, str, Any]]) -> list[Row]:
    from feast.protos.feast.types.Value_pb2 import Value

    of_key: dict[bytes, Row] = {key: {} for key in keys}
    names = [view.name for view, _ in views]
    for tag, key, field, value in found:
        of_key[bytes(key)][f"{names[tag]}__{field}"] = Value.FromString(bytes(value))
    return [of_key[key] for key in keys]


def plain(value: "Value | None") -> Any:
    """Return a stored value as Python has it: a list, a number, a text, or None. Times are seconds since 1970."""
    if value is None:
        return None
    case = value.WhichOneof("val")
    if case is None or case == "null_val":
        return None
    held = getattr(value, case)
    return list(held.val) if case.endswith("_list_val") else held


def _marks(count: int) -> str:
    return ", ".join("?" * count)


def _percents(text: str) -> str:
    """Return a part of a statement in which `%s` stands for parameters."""
    return text.replace("%", "%%")
