"""Remove from the online store what an earlier materialisation loaded and the tables no longer hold.

Feast writes rows and never removes one: a user whose interactions were withdrawn would keep the old history for ever. Rows
are looked at after the load, so that what stays is served throughout. Feast has no call for this; the three engines
are addressed as Feast 0.67 lays them out.
"""

import re
from collections.abc import Set
from itertools import islice
from typing import TYPE_CHECKING, Any

from rf_platform.sql import identifier

if TYPE_CHECKING:
    from feast import FeatureStore, FeatureView

_BATCH = 10_000


def remove_leftovers(store: "FeatureStore", name: str, keys: Set[bytes]) -> int:
    """Remove the rows of a view whose keys are not among those just loaded, and return how many there were.

    Other online stores than SQLite, PostgreSQL and Redis are left as they are.
    """
    view = store.get_feature_view(name)
    match store.config.online_store.type:
        case "sqlite":
            online = _online(store)
            return _from_table(online._get_conn(store.config), "?", store, view, keys)
        case "postgres":
            with _online(store)._get_conn(store.config) as connection:
                return _from_table(connection, "%s", store, view, keys)
        case "redis":
            return _from_redis(_online(store)._get_client(store.config.online_store), store, view, keys)
        case _:
            return 0


def _online(store: "FeatureStore") -> Any:
    return store._get_provider().online_store


def _from_table(connection: Any, mark: str, store: "FeatureStore", view: "FeatureView", keys: Set[bytes]) -> int:
    from feast.infra.online_stores.helpers import compute_table_id

    table = identifier(
        compute_table_id(store.project, view, store.config.registry.enable_online_feature_view_versioning)
    )
    cursor = connection.cursor()
    cursor.execute(f"SELECT DISTINCT entity_key FROM {table}")
    gone = [(key,) for (key,) in cursor.fetchall() if bytes(key) not in keys]
    if gone:
        cursor.executemany(f"DELETE FROM {table} WHERE entity_key = {mark}", gone)
    connection.commit()
    return len(gone)


def _from_redis(client: Any, store: "FeatureStore", view: "FeatureView", keys: Set[bytes]) -> int:
    """Remove a view's fields from the hashes of gone keys; a hash holds all views of one entity."""
    from feast.infra.online_stores.helpers import _mmh3, _redis_key_prefix, compute_versioned_name

    name = compute_versioned_name(view, store.config.registry.enable_online_feature_view_versioning)
    fields = [f"_ts:{name}".encode(), *(_mmh3(f"{name}:{f.name}") for f in view.features)]
    project, prefix = store.project.encode(), _redis_key_prefix(view.join_keys)
    removed = 0
    # Every byte that means something in a pattern may occur in the lengths of the prefix.
    pattern = re.sub(rb"([*?\[\]\\])", rb"\\\1", prefix) + b"*" + project
    scanned = client.scan_iter(pattern, count=_BATCH)
    while found := list(islice(scanned, _BATCH)):
        with client.pipeline(transaction=False) as pipe:
            for key in found:
                if _belongs(key, prefix, project) and key.removesuffix(project) not in keys:
                    pipe.hdel(key, *fields)
            removed += sum(count > 0 for count in pipe.execute())
    return removed


def _belongs(key: bytes, prefix: bytes, project: bytes) -> bool:
    """Is it a key of this project, and not of one whose name only ends alike? Type and length of the id follow the prefix."""
    size = int.from_bytes(key[len(prefix) + 4 : len(prefix) + 8], "little")
    return key[len(prefix) + 8 + size :] == project
