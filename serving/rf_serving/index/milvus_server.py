"""Milvus as the index uses it: one connection a process, its errors as errors of the platform, and what a collection is made of.

Shapes: B queries, S candidates, D width.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from threading import Lock
from time import monotonic, sleep
from typing import Any

import numpy as np
import numpy.typing as npt

from rf_platform.errors import ConfigError, IndexAwayError
from rf_platform.failures.system import first_line
from rf_platform.redaction import without_password
from rf_platform.settings import get_settings
from rf_serving.breaker import Breaker
from rf_serving.index.points import MOST_VALUES, PushedField

PREFIX = "rf_"
"""Beginning of the names of all collections and aliases of the platform."""
LINKS, BUILD_WIDTH = 32, 200
"""HNSW's M and efConstruction, as of the index in files."""
MOST_RESULTS = 16_384
"""Milvus returns no more results, and takes no more queries at once, than this."""
SEARCH_SECONDS, OTHER_SECONDS, SETTLING_SECONDS = 1.0, 30.0, 600.0
"""Time limits of a search, of another call, and of what a new collection needs until it answers in full."""
QUERIES_AT_ONCE, POINTS_AT_ONCE, IDS_AT_ONCE = 256, 2000, 1000
_RECONNECTING = {"grpc.max_reconnect_backoff_ms": 1000, "grpc.use_local_subchannel_pool": 1}
"""A server that comes back is found within a second; gRPC waits two minutes after a long absence."""
_EXTRA = "pip install 'retrievalformer[milvus]'"


class MilvusServer:
    """Connection to a Milvus server or cluster, made when it is first used."""

    def __init__(self, url: str) -> None:
        """``url``: ``http(s)://[user:password@]host:port[/database]``."""
        self._url, self.shown = url, without_password(url)
        self._client: Any = None
        self._loaded: set[str] = set()
        """Collections that were loaded since the connection was made: a server that was started anew may have none."""
        self._lock, self._breaker = Lock(), Breaker()

    @classmethod
    def configured(cls) -> "MilvusServer":
        """Return the server that ``RF_INDEX_URL`` names, the same object each time.

        Raises:
            ConfigError: it names none, or there is no client for it.
        """
        url = get_settings().index_url
        if url is None:
            raise ConfigError(
                "RF_INDEX_URL is not set: the index of kind milvus is searched by a Milvus server; set it, such as to "
                "http://localhost:19530, or build the bundle with another --kind"
            )
        return _server(url)

    def call(self, doing: str, name: str, *args: Any, seconds: float = OTHER_SECONDS, **options: Any) -> Any:
        """Call a method of the client.

        Raises:
            IndexAwayError: the server does not answer in time, or refuses.
            ConfigError: there is no client.
        """
        with self._failing(doing):
            return getattr(self._connected(), name)(*args, timeout=seconds, **options)

    def search(self, collection: str, queries_BD: npt.NDArray[np.float32], **options: Any) -> Any:
        """Search, unless the server has just failed several times; then once in a while.

        Raises:
            IndexAwayError: there is no answer.
        """
        with self._lock:
            if not self._breaker.allows():
                raise IndexAwayError(f"Milvus at {self.shown} failed and is tried again shortly")
        try:
            self.load(collection)
            found = self.call(
                "searching the index", "search", collection, data=list(queries_BD), seconds=SEARCH_SECONDS, **options
            )
        except IndexAwayError:
            with self._lock:
                self._breaker.failed()
            raise
        with self._lock:
            self._breaker.succeeded()
        return found

    def load(self, collection: str, seconds: float = OTHER_SECONDS) -> None:
        """Have a collection in the memory of the servers, unless it was there on this connection."""
        if collection not in self._loaded:
            self.call("loading the index", "load_collection", collection, seconds=seconds)
            self._loaded.add(collection)

    def _connected(self) -> Any:
        with self._lock:
            if self._client is None:
                try:
                    from pymilvus import MilvusClient
                except ImportError as error:
                    raise ConfigError(
                        f"the index of kind milvus needs the client of Milvus, which is not installed; {_EXTRA}"
                    ) from error
                logging.getLogger("pymilvus").setLevel(logging.CRITICAL)  # it logs what it raises, with stack traces
                self._client = MilvusClient(uri=self._url, timeout=SEARCH_SECONDS, grpc_options=_RECONNECTING)
            return self._client

    def _forget(self) -> None:
        """Give the connection up: the next call makes another, without waiting for this one to recover."""
        with self._lock:
            client, self._client = self._client, None
            self._loaded.clear()
        if client is not None:
            with suppress(Exception):
                client.close()

    @contextmanager
    def _failing(self, doing: str) -> Iterator[None]:
        try:
            yield
        except ConfigError:
            raise
        except Exception as error:
            if type(error).__module__.partition(".")[0] not in ("pymilvus", "grpc"):
                raise
            self._forget()
            raise IndexAwayError(
                f"{doing}: Milvus at {self.shown} fails ({_reason(error)}); start it, or serve a bundle with "
                f"another kind of index"
            ) from error


@cache
def _server(url: str) -> MilvusServer:
    return MilvusServer(url)


def _reason(error: Exception) -> str:
    return without_password(str(getattr(error, "message", "")) or first_line(error))


class Collection:
    """A collection: points with vectors, indexed by HNSW."""

    def __init__(self, server: MilvusServer, name: str) -> None:
        self.server, self.name = server, name

    @classmethod
    def create(cls, server: MilvusServer, name: str, width: int, fields: Sequence[PushedField]) -> "Collection":
        """Create an empty one."""
        from pymilvus import DataType, MilvusClient

        schema = MilvusClient.create_schema(auto_id=False, enable_dynamic_field=False)
        schema.add_field("id", DataType.INT64, is_primary=True)
        schema.add_field("change", DataType.INT64)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=width)
        for each in fields:
            if each.dtype.is_list:
                schema.add_field(each.codes, DataType.ARRAY, element_type=DataType.INT64, max_capacity=MOST_VALUES)
            else:
                schema.add_field(each.codes, DataType.INT64)
            if each.value is not None:
                schema.add_field(each.value, DataType.DOUBLE if each.dtype.is_float else DataType.INT64)
        indexed = MilvusClient.prepare_index_params()
        indexed.add_index(
            "vector",
            index_type="HNSW",
            metric_type="IP",
            params={"M": LINKS, "efConstruction": BUILD_WIDTH},
        )
        server.call("creating a collection", "create_collection", name, schema=schema, index_params=indexed)
        return cls(server, name)

    def insert(self, points: list[dict[str, Any]]) -> None:
        """Add points that are not there yet."""
        self.server.call("filling the index", "insert", self.name, points)

    def upsert(self, points: list[dict[str, Any]]) -> None:
        """Put points in the place of those of the same numbers, unless these are of a later change."""
        numbers = [point["id"] for point in points]
        there = self.server.call(
            "changing the index", "query", self.name, ids=numbers, output_fields=["change"], consistency_level="Strong"
        )
        later = {point["id"]: point["change"] for point in there}
        if newer := [point for point in points if later.get(point["id"], -1) <= point["change"]]:
            self.server.call("changing the index", "upsert", self.name, newer)

    def delete(self, numbers: Sequence[int], change: int) -> None:
        """Remove points, but for those of a later change than ``change``."""
        for start in range(0, len(numbers), IDS_AT_ONCE):
            some = list(numbers[start : start + IDS_AT_ONCE])
            self.server.call("changing the index", "delete", self.name, filter=f"id in {some} and change <= {change}")

    def settle(self) -> None:
        """Wait until what was inserted is indexed and in the memory of the servers."""
        self.server.call("indexing", "flush", self.name, seconds=SETTLING_SECONDS)
        self.server.load(self.name, SETTLING_SECONDS)

    def await_points(self, numbers: Sequence[int]) -> None:
        """Wait until searches see points that were upserted."""
        some = list(numbers)[-IDS_AT_ONCE:]
        give_up = monotonic() + OTHER_SECONDS
        while some and monotonic() < give_up:
            seen = self.server.call(
                "changing the index", "query", self.name, ids=some, output_fields=["id"], consistency_level="Bounded"
            )
            if len(seen) >= len(set(some)):
                return
            sleep(0.2)

    def search(
        self, queries_BD: npt.NDArray[np.float32], count: int, width: int, expression: str = ""
    ) -> npt.NDArray[np.int64]:
        """Return the numbers of the points found for each query [B, S], -1 behind the last one; best first.

        Args:
            queries_BD: what is searched with.
            count: how many are asked for, S.
            width: candidates kept while the graph is walked (ef).
            expression: what the points must pass, in Milvus's language; empty for all.
        """
        numbers_BS = np.full((len(queries_BD), count), -1, np.int64)
        there_BS = np.zeros(numbers_BS.shape, np.bool_)
        for start in range(0, len(queries_BD), QUERIES_AT_ONCE):
            found = self.server.search(
                self.name,
                queries_BD[start : start + QUERIES_AT_ONCE],
                anns_field="vector",
                limit=count,
                filter=expression,
                search_params={"metric_type": "IP", "params": {"ef": max(width, count)}},
                consistency_level="Bounded",
            )
            for row, hits in enumerate(found, start):
                numbers_BS[row, : len(hits)] = [hit["id"] for hit in hits]
                there_BS[row, : len(hits)] = True
        return np.where(there_BS, numbers_BS, np.iinfo(np.int64).min)

    def drop(self) -> None:
        """Remove it."""
        self.server.call("removing a collection", "drop_collection", self.name)
