"""Upserts and events on one server, and what another one answers meanwhile: how long an acknowledged one takes to get there.

Every answer tells the last change it takes into account, so the load itself shows when a change has arrived, to within the time
between two answers.
"""

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import grpc
import grpc.aio
import numpy as np

from rf_bench.catalog.events import MeasuredEvents, record
from rf_platform.errors import RunError
from rf_protos.v1.catalog_pb2 import DeleteItemsRequest, GetItemsRequest, Item, UpsertItemsRequest, UpsertStatus
from rf_protos.v1.catalog_pb2_grpc import CatalogServiceStub
from rf_protos.v1.retrieval_pb2 import RetrieveRequest
from rf_protos.v1.retrieval_pb2_grpc import RetrievalServiceStub

CALL_SECONDS = 10.0
SETTLE_SECONDS = 2.0
"""Time that answers are still watched after the last upsert."""
_FIRST_NEW_ID = 10**12
K = 20


@dataclass(frozen=True, kw_only=True)
class CatalogLoad:
    """Load on the two servers."""

    seconds: float
    reads: float
    """Retrieve calls a second on each server."""
    upserts: float
    """Upserts a second on the first server."""
    batch: int
    """Items of an upsert."""
    events: float = 0.0
    """Events a second, recorded on both servers in turn, each of another user."""


class Seen(NamedTuple):
    """An answer of the second server."""

    at: float
    sequence: int


@dataclass(kw_only=True)
class Measured:
    """Observations; all times in seconds."""

    acknowledged: list[Seen] = field(default_factory=list)
    """Time of each upsert's acknowledgement, with its last change."""
    upsert_seconds: list[float] = field(default_factory=list)
    answers: list[Seen] = field(default_factory=list)
    """Of the second server, in the order they came."""
    read_seconds: dict[str, list[float]] = field(default_factory=lambda: {"first": [], "second": []})
    statuses: Counter[str] = field(default_factory=Counter)
    items: int = 0
    events: MeasuredEvents | None = None

    def delays(self) -> list[float]:
        """Return for every upsert how long after its acknowledgement the second server first answered with it, 0 if before.

        Raises:
            RunError: one never arrived.
        """
        at = np.array([seen.at for seen in self.answers])
        arrived = np.maximum.accumulate(np.array([seen.sequence for seen in self.answers]))
        delays = []
        for change in self.acknowledged:
            first = int(np.searchsorted(arrived, change.sequence))
            if first == len(arrived):
                raise RunError(f"change {change.sequence} was acknowledged, and the second server never had it")
            delays.append(max(0.0, float(at[first]) - change.at))
        return delays

    def figures(self) -> "Figures":
        """Return percentiles of everything.

        Raises:
            RunError: an upsert never arrived.
        """
        seconds = {"acknowledged to searchable elsewhere": self.delays(), "upsert": self.upsert_seconds}
        seconds |= {f"retrieve on {name} server": found for name, found in self.read_seconds.items()}
        recorded = self.events or MeasuredEvents()
        seconds["record event"] = recorded.record_seconds
        for name, found in recorded.delays.items():
            seconds[f"event acknowledged by {name} server to answered by the other"] = found
        return Figures(
            upserts=len(self.acknowledged),
            items=self.items,
            events=len(recorded.record_seconds),
            statuses=dict(self.statuses),
            milliseconds={name: Percentiles.of(found) for name, found in seconds.items() if found},
        )


@dataclass(frozen=True)
class Percentiles:
    """Percentiles and maximum of times, in milliseconds."""

    p50: float
    p90: float
    p99: float
    max: float

    @classmethod
    def of(cls, seconds: list[float]) -> "Percentiles":
        """Return those of some times in seconds."""
        return cls(*(round(float(value), 2) for value in np.percentile(seconds, [50, 90, 99, 100]) * 1000))


@dataclass(frozen=True, kw_only=True)
class Figures:
    """Figures of one run."""

    upserts: int
    items: int
    """Upserted."""
    events: int
    """Recorded."""
    statuses: dict[str, int]
    """Retrieve calls by status."""
    milliseconds: dict[str, Percentiles]
    """By what was timed; without what did not happen."""


async def measure(first: str, second: str, users: list[str], items: list[str], load: CatalogLoad) -> Measured:
    """Put load on two servers of one deployment.

    Args:
        first: address of the server that gets the upserts.
        second: address of the one that has to follow.
        users: users of the requests.
        items: ids of the catalog; new items have features of these.
        load: how much.

    Raises:
        RunError: a change or an event was not acknowledged, or never arrived, or a deleted item is still there.
    """
    measured = Measured()
    async with grpc.aio.insecure_channel(first) as one, grpc.aio.insecure_channel(second) as other:
        catalog = CatalogServiceStub(one)  # type: ignore[no-untyped-call]
        known = [found.item for found in (await catalog.GetItems(GetItemsRequest(item_ids=items))).items]
        until = time.perf_counter() + load.seconds
        reading = until + SETTLE_SECONDS
        results = await asyncio.gather(
            _upsert(catalog, known, load, measured, until),
            _read(one, users, load.reads, measured, "first", reading),
            _read(other, users, load.reads, measured, "second", reading),
            _record(one, other, users, items, load, measured, until),
        )
        await _check(one, other, results[0], measured)
    return measured


async def _upsert(catalog: Any, known: list[Item], load: CatalogLoad, measured: Measured, until: float) -> list[Item]:
    rng = np.random.default_rng()
    sent: list[Item] = []
    while (now := time.perf_counter()) < until:
        items = [
            Item(
                item_id=str(int(rng.integers(_FIRST_NEW_ID, 2**62))),
                features=known[int(rng.integers(len(known)))].features,
            )
            for _ in range(load.batch)
        ]
        response = await catalog.UpsertItems(UpsertItemsRequest(items=items, neighbours=5), timeout=CALL_SECONDS)
        done = time.perf_counter()
        if wrong := [s for s in response.statuses if s.outcome != UpsertStatus.ADDED or not s.searchable]:
            raise RunError(f"an upsert of a new item gives {wrong[0]}")
        measured.upsert_seconds.append(done - now)
        measured.acknowledged.append(Seen(done, max(status.sequence for status in response.statuses)))
        measured.items += len(items)
        sent.extend(items)
        await asyncio.sleep(float(rng.exponential(1 / load.upserts)))
    return sent


async def _record(
    one: grpc.aio.Channel,
    other: grpc.aio.Channel,
    users: list[str],
    items: list[str],
    load: CatalogLoad,
    measured: Measured,
    until: float,
) -> None:
    if load.events:
        measured.events = await record({"first": one, "second": other}, users, items, load.events, until)


async def _read(
    channel: grpc.aio.Channel, users: list[str], rate: float, measured: Measured, name: str, until: float
) -> None:
    rng = np.random.default_rng()
    stub = RetrievalServiceStub(channel)  # type: ignore[no-untyped-call]
    calls: set[asyncio.Task[None]] = set()

    async def call() -> None:
        begin = time.perf_counter()
        try:
            request = RetrieveRequest(user_id=users[int(rng.integers(len(users)))], k=K, exclude_seen=True)
            answer = await stub.Retrieve(request, timeout=CALL_SECONDS)
        except grpc.aio.AioRpcError as error:
            measured.statuses[error.code().name] += 1
            return
        done = time.perf_counter()
        measured.statuses["OK"] += 1
        measured.read_seconds[name].append(done - begin)
        if name == "second":
            measured.answers.append(Seen(done, answer.catalog_sequence))

    while time.perf_counter() < until:
        task = asyncio.create_task(call())
        calls.add(task)
        task.add_done_callback(calls.discard)
        await asyncio.sleep(float(rng.exponential(1 / rate)))
    if calls:
        await asyncio.wait(list(calls))


async def _check(one: grpc.aio.Channel, other: grpc.aio.Channel, sent: list[Item], measured: Measured) -> None:
    """Have the second server search for some of the items; then delete all of them, and see them gone there."""
    first, second = CatalogServiceStub(one), CatalogServiceStub(other)  # type: ignore[no-untyped-call]
    response = await second.UpsertItems(UpsertItemsRequest(items=sent[-100:]), timeout=CALL_SECONDS)
    if wrong := [s for s in response.statuses if s.outcome != UpsertStatus.UNCHANGED or not s.searchable]:
        raise RunError(f"the second server has an item that was acknowledged like this: {wrong[0]}")
    ids = [item.item_id for item in sent]
    for start in range(0, len(ids), 1000):
        await first.DeleteItems(DeleteItemsRequest(item_ids=ids[start : start + 1000]), timeout=CALL_SECONDS)
    await asyncio.sleep(1)
    left = await second.GetItems(GetItemsRequest(item_ids=ids[-1000:]), timeout=CALL_SECONDS)
    if left.items:
        raise RunError(f"the second server still has {len(left.items)} items a second after they were deleted")
