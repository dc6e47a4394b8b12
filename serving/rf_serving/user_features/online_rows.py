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
from time import localtime, monotonic
from typing import TYPE_CHECKING, Any

from rf_platform.features.expiry import now_us, oldest_alive
from rf_platform.features.online_table import StoreFile, has_table, table_name
from rf_platform.sql import literal
from rf_serving.user_features.online_store import WAIT_SECONDS, EntityKeys, close_online, open_online

if TYPE_CHECKING:
    from feast import FeatureStore, FeatureView
    from feast.protos.feast.types.Value_pb2 import Value

Row = dict[str, Any]
"""Values of one user (``Value``) by full name ``view__field``; what is not in the store is not there. Where times are asked for,
also the event timestamp of each view's row by the view's name, and the moment of the read as :data:`READ_AT`, in microseconds."""
READ_AT = ""
_Read = Callable[[list[bytes], list[int | str]], list[Row]]
"""Reads the rows of ids, by their keys."""
_Views = Sequence[tuple["FeatureView", list[str]]]
_EPOCH, _MICROSECOND = datetime(1970, 1, 1, tzinfo=UTC), timedelta(microseconds=1)
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
        more: "FeatureView | None" = None,
    ) -> None:
        """Resolve views and key.

        Args:
            store: the feature store.
            fields: view and field names; all views have the same entity.
            clock: the present, in microseconds since 1970.
            more: a view of that entity with rows that never expire, to be read where a call asks for fields of it. Its table
                need not be there.
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
        (first, _), *_ = [*self._views, *([(more, [""])] if more else [])]
        self._keys = EntityKeys(store, first)
        self._read: _Read | None = None
        self._readers: dict[tuple[tuple[str, ...], bool], _Read] = {}
        self._has_more, self._look_at = False, 0.0
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
        other._read, other._readers, other._online, other._wait_seconds = None, {}, None, wait_seconds
        return other

    def read(self, ids: Sequence[int | str], *, more: tuple[str, ...] = (), timed: bool = False) -> list[Row]:
        """Return the row of each id, in order; an unknown id has an empty one. Each store raises errors of its own.

        Args:
            ids: of the entity.
            more: fields of the further view to read as well, in the same round trip.
            timed: whether rows say the event timestamps of their views, and the moment of the read.
        """
        keys = [self._keys.bytes_of(each) for each in ids]
        asked = [i for i, key in enumerate(keys) if key is not None]
        rows: list[Row] = [{READ_AT: self._clock()} if timed else {} for _ in ids]
        if not asked:
            return rows
        if self._read is not None and self.is_local and self._file.identity != self._opened:
            self.close()  # it was replaced
        if self._read is None:
            self._read = self._open()
        try:
            read = self._reading(more, timed) if more or timed else self._read
            found = read([keys[i] for i in asked], [ids[i] for i in asked])  # type: ignore[misc]
        except Exception:
            self.close()
            raise
        for i, row in zip(asked, found, strict=True):
            if timed:
                row |= rows[i]
            rows[i] = row
        return rows

    def moments(self, each: int | str) -> dict[str, datetime]:
        """Return the event timestamp of an id's row in each view, by the view's name; views without a row are left out.

        It is for people who look, and goes through Feast's own reading, whatever the store.
        """
        if (key := self._keys.of(each)) is None:
            return {}
        if self._read is None:
            self._read = self._open()
        found = {}
        for view, fields in self._views:
            ((moment, _),) = self._online.online_read(self._config, view, [key[1]], fields[:1])
            if moment is not None:
                found[view.name] = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
        return found

    def close(self) -> None:
        """Close the connection; the next read opens another."""
        self._read, self._readers, online, self._online = None, {}, self._online, None
        self._has_more = False
        close_online(online)

    def _open(self) -> _Read:
        self._opened = self._file.identity
        self._online, self._look_at = open_online(self._config, self._wait_seconds), 0.0
        return self._reader(self._views)

    def _reading(self, fields: tuple[str, ...], timed: bool) -> _Read:
        """Return what reads all views, and these fields of the further one as soon as it has a table."""
        if fields and not self._has_more:
            if self._more is not None and monotonic() >= self._look_at:
                self._has_more = has_table(self._config, self._online, self._more)
                self._look_at = monotonic() + _LOOK_AGAIN_SECONDS
            if not self._has_more:
                fields = ()
        if (read := self._readers.get((fields, timed))) is None:
            more = [(self._more, list(fields))] if fields and self._more is not None else []
            read = self._readers[fields, timed] = self._reader([*self._views, *more], timed)
        return read

    def _reader(self, views: _Views, timed: bool = False) -> _Read:
        config = self._config.online_store
        if not views:
            return lambda keys, _: [{} for _ in keys]
        match config.type:
            case "sqlite":
                return self._from_sqlite(self._online._get_conn(self._config), views, timed)
            case "postgres" if config.conn_type.value == "singleton":
                with self._online._get_conn(self._config, autocommit=True) as connection:
                    return self._from_postgres(connection, views, timed)
            case "redis" if config.client == "redis" and config.redis_type == "redis":
                return self._from_redis(self._online._get_client(config), views, timed)
            case _:
                return partial(self._by_view, views, timed)

    def _oldest(self) -> dict[int, datetime]:
        """Return the oldest event timestamp, UTC, that counts now, of the views with a ttl, by number."""
        if not self._ttls:
            return {}
        moment_us = self._clock()
        return {i: oldest_alive(moment_us, ttl) for i, ttl in self._ttls}

    def _tables(self, views: _Views) -> list[tuple[str, list[str]]]:
        return [(table_name(self._config, view), names) for view, names in views]

    def _from_sqlite(self, connection: Any, views: _Views, timed: bool) -> _Read:
        # Where all fields of a view are asked for, it costs half to ask for the key alone: the index is searched once.
        tables = [
            (table, [] if len(fields) == len(view.features) else fields)
            for (table, fields), (view, _) in zip(self._tables(views), views, strict=True)
        ]
        expiring = [i for i, _ in self._ttls]
        # An expression, so that sqlite3 does not make a datetime of every one.
        moment = ", +event_ts" if timed else ""

        def statement(keys: int) -> str:
            return " UNION ALL ".join(
                f"SELECT {tag}, entity_key, feature_name, value{moment} FROM {table} WHERE entity_key IN ({_marks(keys)})"
                + (f" AND feature_name IN ({_marks(len(fields))})" if fields else "")
                + (" AND event_ts >= ?" if tag in expiring else "")
                for tag, (table, fields) in enumerate(tables)
            )

        single = statement(1)

        def read(keys: list[bytes], _: list[int | str]) -> list[Row]:
            # Feast writes the time without its zone, UTC, as if it were the machine's own; so is what it is compared with.
            since = {tag: (oldest.replace(tzinfo=None).timestamp(),) for tag, oldest in self._oldest().items()}
            parameters = [
                value for tag, (_, fields) in enumerate(tables) for value in (*keys, *fields, *since.get(tag, ()))
            ]
            found = connection.execute(single if len(keys) == 1 else statement(len(keys)), parameters).fetchall()
            return _timed_rows(views, keys, found, _of_local) if timed else _rows(views, keys, found)

        return read

    def _from_postgres(self, connection: Any, views: _Views, timed: bool) -> _Read:
        tables = self._tables(views)
        expiring = [i for i, _ in self._ttls]

        moment = ", event_ts" if timed else ""

        def statement(condition: str) -> bytes:
            return " UNION ALL ".join(
                f"SELECT {tag}, entity_key, feature_name, value{moment} FROM {_percents(table)} "
                f"WHERE {condition} AND feature_name IN ({', '.join(_percents(literal(field)) for field in fields)})"
                + (" AND event_ts >= %s" if tag in expiring else "")
                for tag, (table, fields) in enumerate(tables)
            ).encode()

        # For `= ANY` of an unknown number of keys the planner may prefer to read the whole table.
        single, several = statement("entity_key = %s"), statement("entity_key = ANY(%s)")

        def read(keys: list[bytes], _: list[int | str]) -> list[Row]:
            # Feast writes the time without its zone, UTC, and the session reads it in its own; so is what it is compared with.
            since = {tag: (oldest.replace(tzinfo=None),) for tag, oldest in self._oldest().items()}
            one, asked = len(keys) == 1, keys[0] if len(keys) == 1 else keys
            parameters = [value for tag in range(len(tables)) for value in (asked, *since.get(tag, ()))]
            # Binary results: bytea as text would be decoded from hex.
            with connection.cursor(binary=True) as cursor:
                cursor.execute(single if one else several, parameters)
                found = cursor.fetchall()
            return _timed_rows(views, keys, found, _microseconds) if timed else _rows(views, keys, found)

        return read

    def _from_redis(self, client: Any, views: _Views, timed: bool) -> _Read:
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
        if timed:
            hashed += [f"_ts:{name}" for name in versioned_names[: len(self._views)]]

        def row(found: list[bytes | None], oldest: dict[int, datetime]) -> Row:
            # An empty text is a value that was written as missing.
            held: Row = {n: Value.FromString(v) for n, v in zip(names, found, strict=False) if v is not None}
            ends = len(names) + len(oldest)
            for (i, since), stored in zip(oldest.items(), found[len(names) : ends], strict=True):
                if stored is not None and Timestamp.FromString(stored).ToDatetime(UTC) < since:
                    view, fields = views[i]
                    for field in fields:
                        held.pop(f"{view.name}__{field}", None)
            if timed:
                for (view, _), stored in zip(self._views, found[-len(self._views) :], strict=True):
                    if stored is not None:
                        held[view.name] = Timestamp.FromString(stored).ToMicroseconds()
            return held

        def read(keys: list[bytes], _: list[int | str]) -> list[Row]:
            oldest = self._oldest()
            if len(keys) == 1:
                return [row(client.hmget(keys[0] + project, hashed), oldest)]
            with client.pipeline(transaction=False) as pipe:
                for key in keys:
                    pipe.hmget(key + project, hashed)
                return [row(found, oldest) for found in pipe.execute()]

        return read

    def _by_view(self, views: _Views, timed: bool, _: list[bytes], ids: list[int | str]) -> list[Row]:
        rows: list[Row] = [{} for _ in ids]
        keys: list[Any] = [self._keys.of(each)[1] for each in ids]  # type: ignore[index]
        oldest = self._oldest()
        for i, (view, fields) in enumerate(views):
            for row, (moment, found) in zip(
                rows, self._online.online_read(self._config, view, keys, list(fields)), strict=True
            ):
                if i in oldest and moment is not None and moment.replace(tzinfo=UTC) < oldest[i]:
                    continue
                if timed and moment is not None and i < len(self._views):
                    row[view.name] = _microseconds(moment)
                row.update({f"{view.name}__{name}": (found or {})[name] for name in fields if name in (found or {})})
        return rows


def _rows(views: _Views, keys: list[bytes], found: Sequence[tuple[int, Any, str, Any]]) -> list[Row]:
    from feast.protos.feast.types.Value_pb2 import Value

    of_key: dict[bytes, Row] = {key: {} for key in keys}
    names = [{field: f"{view.name}__{field}" for field in fields} for view, fields in views]
    parse = Value.FromString
    for tag, key, field, value in found:
        if (name := names[tag].get(field)) is not None:
            of_key[key][name] = parse(value)
    return [of_key[key] for key in keys]


def _timed_rows(
    views: _Views, keys: list[bytes], found: Sequence[tuple[int, Any, str, Any, Any]], moment_of: Callable[[Any], int]
) -> list[Row]:
    """Return the rows with the event timestamps of their views; those of the further view, the last one, say nothing."""
    from feast.protos.feast.types.Value_pb2 import Value

    of_key: dict[bytes, Row] = {key: {} for key in keys}
    of_view = [(view.name, {field: f"{view.name}__{field}" for field in fields}) for view, fields in views]
    parse = Value.FromString
    for tag, key, field, value, moment in found:
        row, (view, names) = of_key[key], of_view[tag]
        if (name := names.get(field)) is not None:
            row[name] = parse(value)
        if moment is not None and view not in row:
            row[view] = moment_of(moment)
    return [of_key[key] for key in keys]


def _of_local(seconds: int) -> int:
    """Return a time as SQLite has it, in microseconds since 1970: Feast writes it as if UTC were the machine's own zone."""
    return (int(seconds) + localtime(seconds).tm_gmtoff) * 1_000_000


def _microseconds(moment: datetime) -> int:
    """Return a time in microseconds since 1970; its wall clock is UTC, whatever zone the engine puts to it."""
    return (moment.replace(tzinfo=UTC) - _EPOCH) // _MICROSECOND


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
