"""A connection to the online store that is our own, and keys as it writes them."""

from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from feast import FeatureStore, FeatureView, RepoConfig
    from feast.protos.feast.types.EntityKey_pb2 import EntityKey

WAIT_SECONDS = 1.0
"""Longest wait of a call for a locked or silent store, where the store has such a setting."""


def open_online(config: "RepoConfig", wait_seconds: float = WAIT_SECONDS, *, retries: bool = True) -> Any:
    """Return a Feast online store with a connection of its own, which gives up instead of waiting for ever.

    Args:
        config: of the repository.
        wait_seconds: how long a call waits for a store that is locked or silent.
        retries: whether a client may repeat a call that failed, unseen, over another connection: maybe to another server.

    Raises errors of the store's own if it cannot be reached; some connect at the first call only.
    """
    from feast.infra.online_stores.helpers import get_online_store_from_config

    store = config.online_store
    online = get_online_store_from_config(store)
    milliseconds = int(wait_seconds * 1000)
    if store.type == "sqlite":
        online._get_conn(config).execute(f"PRAGMA busy_timeout = {milliseconds}")
    elif store.type == "postgres" and store.conn_type.value == "singleton":
        with online._get_conn(config, autocommit=True) as connection:
            connection.execute(f"SET statement_timeout = {milliseconds}")
    elif store.type == "redis":
        given = store.connection_string
        limits = {name: f",{name}={wait_seconds:g}" for name in ("socket_timeout", "socket_connect_timeout")}
        added = "".join(text for name, text in limits.items() if name not in given)
        client = online._get_client(store.model_copy(update={"connection_string": given + added}))
        if not retries and hasattr(client, "set_retry"):
            from redis.backoff import NoBackoff
            from redis.retry import Retry

            client.set_retry(Retry(NoBackoff(), 0))
    return online


def close_online(online: Any) -> None:
    """Close the connection of an online store; None is none."""
    for name in ("_conn", "_client"):
        if (connection := getattr(online, name, None)) is not None:
            with suppress(Exception):  # it may be what is broken
                connection.close()
            setattr(online, name, None)


class EntityKeys:
    """Makes the keys of a view's rows."""

    def __init__(self, store: "FeatureStore", view: "FeatureView") -> None:
        from feast.infra.key_encoding_utils import serialize_entity_key
        from feast.protos.feast.types.EntityKey_pb2 import EntityKey
        from feast.protos.feast.types.Value_pb2 import Value
        from feast.type_map import python_values_to_proto_values

        (entity,) = view.entity_columns
        self._name, self._version = entity.name, store.config.entity_key_serialization_version
        value_type = entity.dtype.to_value_type()
        (sample,) = python_values_to_proto_values(["x" if value_type.name == "STRING" else 1], value_type)
        self._field = str(sample.WhichOneof("val"))
        self._value, self._key, self._serialize = Value, EntityKey, serialize_entity_key
        self._head = self._common_head()

    def bytes_of(self, each: int | str) -> bytes | None:
        """Return the key of an id; None for an id that the entity cannot have."""
        if self._head is not None and type(each) is int and each.bit_length() < 64:
            return self._head + each.to_bytes(8, "little", signed=True)
        key = self.of(each)
        return None if key is None else key[0]

    def _common_head(self) -> bytes | None:
        """Return what the keys of all integers begin with, if the integer itself is all that follows; None if it is not."""
        if self._field != "int64_val":
            return None
        heads: set[bytes] = set()
        for each in (0, 1, -1, 2**63 - 1, -(2**63)):
            key = self.of(each)
            end = each.to_bytes(8, "little", signed=True)
            if key is None or not key[0].endswith(end):
                return None
            heads.add(key[0].removesuffix(end))
        return heads.pop() if len(heads) == 1 else None

    def of(self, each: int | str) -> "tuple[bytes, EntityKey] | None":
        """Return the key of an id, as bytes and as a message; None for an id that the entity cannot have."""
        try:
            value = self._value(**{self._field: each})  # type: ignore[arg-type]
        except ValueError:
            return None
        key = self._key(join_keys=[self._name], entity_values=[value])
        return self._serialize(key, self._version), key
