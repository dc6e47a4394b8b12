"""Remove from the online store what an earlier materialisation loaded and the tables no longer hold.

Feast writes rows and never removes one: a user whose interactions were withdrawn would keep the old history for ever. Rows
are looked at after the load, so that what stays is served throughout. Feast has no call for this; the three engines
are addressed as Feast 0.67 lays them out.
"""

import re
from collections.abc import Sequence, Set
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, Any

from rf_platform.features.online_table import has_table, table_name

if TYPE_CHECKING:
    from feast import FeatureStore, FeatureView

_BATCH = 10_000


def remove_leftovers(
    store: "FeatureStore", view: "FeatureView", keys: Set[bytes], spared_from: datetime | None
) -> tuple[int, int]:
    """Remove the rows of a view with keys that were not loaded.

    Other online stores than SQLite, PostgreSQL and Redis are left as they are.

    Args:
        store: the feature store.
        view: the view.
        keys: what was loaded, as the online store writes keys.
        spared_from: rows with this event timestamp or a later one stay; None: none stays.

    Returns:
        How many rows were removed, and how many stay though their keys were not loaded.
    """
    match store.config.online_store.type:
        case "sqlite":
            online = _online(store)
            return _from_table(online._get_conn(store.config), "?", store, view, keys, spared_from)
        case "postgres":
            with _online(store)._get_conn(store.config) as connection:
                return _from_table(connection, "%s", store, view, keys, spared_from)
        case "redis":
            return _from_redis(_online(store)._get_client(store.config.online_store), store, view, keys, spared_from)
        case _:
            return 0, 0


def remove_rows(store: "FeatureStore", view: "FeatureView", ids: Sequence[int | str]) -> int | None:
    """Remove the rows of some ids of a view's one entity, and return how many ids had one.

    None: the online store is none of SQLite, PostgreSQL and Redis, and nothing was removed; or the view has no table.
    """
    from feast.infra.key_encoding_utils import serialize_entity_key
    from feast.protos.feast.types.EntityKey_pb2 import EntityKey
    from feast.type_map import python_values_to_proto_values

    (entity,) = view.entity_columns
    values = python_values_to_proto_values(list(ids), entity.dtype.to_value_type())
    version = store.config.entity_key_serialization_version
    keys = [
        serialize_entity_key(EntityKey(join_keys=[entity.name], entity_values=[value]), version) for value in values
    ]
    online = _online(store)
    if store.config.online_store.type not in ("sqlite", "postgres", "redis"):
        return None
    if not has_table(store.config, online, view):
        return None
    match store.config.online_store.type:
        case "sqlite":
            return _delete(online._get_conn(store.config), "?", table_name(store.config, view), keys)
        case "postgres":
            with online._get_conn(store.config) as connection:
                return _delete(connection, "%s", table_name(store.config, view), keys)
        case _:
            return _delete_from_redis(online._get_client(store.config.online_store), store, view, keys)


def _delete(connection: Any, mark: str, table: str, keys: Sequence[bytes]) -> int:
    cursor, removed = connection.cursor(), 0
    for key in keys:
        cursor.execute(f"DELETE FROM {table} WHERE entity_key = {mark}", (key,))
        removed += cursor.rowcount > 0
    connection.commit()
    return removed


def _delete_from_redis(client: Any, store: "FeatureStore", view: "FeatureView", keys: Sequence[bytes]) -> int:
    from feast.infra.online_stores.helpers import _mmh3, compute_versioned_name

    name = compute_versioned_name(view, store.config.registry.enable_online_feature_view_versioning)
    fields = [f"_ts:{name}".encode(), *(_mmh3(f"{name}:{f.name}") for f in view.features)]
    return sum(client.hdel(key + store.project.encode(), *fields) > 0 for key in keys)


def _online(store: "FeatureStore") -> Any:
    return store._get_provider().online_store


def _from_table(
    connection: Any,
    mark: str,
    store: "FeatureStore",
    view: "FeatureView",
    keys: Set[bytes],
    spared_from: datetime | None,
) -> tuple[int, int]:
    table = table_name(store.config, view)
    cursor = connection.cursor()
    # Times are compared as they are written: without a zone, and in SQLite in whole seconds.
    recent = f"max(event_ts) >= {mark}" if spared_from else "NULL"
    moment = () if spared_from is None else (spared_from.replace(tzinfo=None),)
    cursor.execute(f"SELECT entity_key, {recent} FROM {table} GROUP BY entity_key", moment)
    others = [(key, spared) for key, spared in cursor.fetchall() if bytes(key) not in keys]
    gone = [(key,) for key, spared in others if not spared]
    if gone:
        cursor.executemany(f"DELETE FROM {table} WHERE entity_key = {mark}", gone)
    connection.commit()
    return len(gone), len(others) - len(gone)


def _from_redis(
    client: Any, store: "FeatureStore", view: "FeatureView", keys: Set[bytes], spared_from: datetime | None
) -> tuple[int, int]:
    """Remove a view's fields from the hashes of gone keys; a hash holds all views of one entity."""
    from feast.infra.online_stores.helpers import _mmh3, _redis_key_prefix, compute_versioned_name

    name = compute_versioned_name(view, store.config.registry.enable_online_feature_view_versioning)
    time = f"_ts:{name}".encode()
    fields = [time, *(_mmh3(f"{name}:{f.name}") for f in view.features)]
    project, prefix = store.project.encode(), _redis_key_prefix(view.join_keys)
    removed = spared = 0
    # Every byte that means something in a pattern may occur in the lengths of the prefix.
    pattern = re.sub(rb"([*?\[\]\\])", rb"\\\1", prefix) + b"*" + project
    scanned = client.scan_iter(pattern, count=_BATCH)
    while found := list(islice(scanned, _BATCH)):
        others = [key for key in found if _belongs(key, prefix, project) and key.removesuffix(project) not in keys]
        with client.pipeline(transaction=False) as pipe:
            for key in others:
                pipe.hget(key, time)
            times = pipe.execute()
            stays = [spared_from is not None and _moment(each) >= spared_from.timestamp() for each in times]
            for key, stay in zip(others, stays, strict=True):
                if not stay:
                    pipe.hdel(key, *fields)
            removed += sum(count > 0 for count in pipe.execute())
        spared += sum(stays)
    return removed, spared


def _moment(stored: bytes | None) -> float:
    """Return an event timestamp of Redis, in seconds since 1970; of a row that is not there, one before all."""
    from google.protobuf.timestamp_pb2 import Timestamp

    return float("-inf") if stored is None else Timestamp.FromString(stored).ToNanoseconds() / 1e9


def _belongs(key: bytes, prefix: bytes, project: bytes) -> bool:
    """Return whether a key is of this project, not of one with a like ending: type and length of the id follow the prefix."""
    size = int.from_bytes(key[len(prefix) + 4 : len(prefix) + 8], "little")
    return key[len(prefix) + 8 + size :] == project
