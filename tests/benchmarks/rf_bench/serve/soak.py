"""A long stretch of load while everything changes: bundles, items, events. Nothing may fail and nothing may grow."""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from uuid import uuid4

import grpc.aio
import numpy as np

from rf_bench.serve.processes import Usage
from rf_bench.serve.stretch import Target, stretch
from rf_platform.registry import Registry
from rf_protos.v1.catalog_pb2 import DeleteItemsRequest, GetItemsRequest, Item, UpsertItemsRequest, UpsertStatus
from rf_protos.v1.catalog_pb2_grpc import CatalogServiceStub
from rf_protos.v1.deployment_pb2 import GetDeploymentRequest
from rf_protos.v1.deployment_pb2_grpc import DeploymentServiceStub
from rf_protos.v1.feedback_pb2 import Event, EventStatus, RecordEventsRequest
from rf_protos.v1.feedback_pb2_grpc import FeedbackServiceStub

STRETCH_SECONDS = 30.0
CALL_SECONDS = 10.0
SWAP_EVERY, UPSERT_EVERY, EVENT_EVERY = 20.0, 1.0, 0.5
"""Seconds between two changes of a kind."""
ITEMS_AT_ONCE, EVENTS_AT_ONCE = 10, 5


@dataclass(frozen=True, kw_only=True)
class Soak:
    """Result of a soak."""

    minutes: float
    rate: float
    statuses: dict[str, int]
    """Retrieve calls by status."""
    changes: dict[str, int]
    """Promotions, upserted and deleted items, and events that were acknowledged."""
    errors: list[str]
    """Errors of changes, at most twenty."""
    p99_ms: list[float]
    """Of each stretch of half a minute."""
    memory: list[int]
    """Proportional set size in bytes at the end of each stretch."""
    open_files: list[int]
    """File descriptors then."""

    @property
    def growth(self) -> float:
        """Growth of the least memory from the third quarter of the soak to the last one; the first half fills caches.

        The least, because there is more for a while whenever a second bundle is loaded.
        """
        half = self.memory[len(self.memory) // 2 :]
        middle = len(half) // 2
        return min(half[middle:]) / min(half[:middle] or half) - 1


class Changes:
    """Changes everything that can change while a server runs."""

    def __init__(
        self, channel: grpc.aio.Channel, registry: Registry, bundles: list[str], users: list[str], seed: int
    ) -> None:
        self._catalog = CatalogServiceStub(channel)  # type: ignore[no-untyped-call]
        self._feedback = FeedbackServiceStub(channel)  # type: ignore[no-untyped-call]
        self._deployment = DeploymentServiceStub(channel)  # type: ignore[no-untyped-call]
        self._registry, self._bundles, self._users = registry, bundles, users
        self._rng = np.random.default_rng(seed)
        self._known: list[Item] = []
        self.counts: Counter[str] = Counter()
        self.errors: list[str] = []

    async def prepare(self, item_ids: list[str]) -> None:
        """Read some items, for the features of the upserts."""
        got = await self._catalog.GetItems(GetItemsRequest(item_ids=item_ids), timeout=CALL_SECONDS)
        self._known = [each.item for each in got.items]

    async def every(self, seconds: float, change: Callable[[], Awaitable[None]], until: float) -> None:
        """Make a change again and again; what fails is noted and does not stop the others."""
        while time.monotonic() < until:
            try:
                await change()
            except Exception as error:  # whatever it is, it counts
                self._note(f"{change.__name__}: {error!r}")
            await asyncio.sleep(seconds)

    async def swap(self) -> None:
        """Promote the other bundle and wait until the process that is asked serves it."""
        name = self._bundles[self.counts["promotions"] % len(self._bundles)]
        await asyncio.to_thread(self._registry.promote, name)
        deadline = time.monotonic() + 60
        while True:
            found = await self._deployment.GetDeployment(GetDeploymentRequest(), timeout=CALL_SECONDS)
            if found.active.name == name:
                break
            if time.monotonic() > deadline:
                raise TimeoutError(f"{name} was promoted a minute ago and is not served: {found.refused}")
            await asyncio.sleep(0.5)
        self.counts["promotions"] += 1

    async def upsert(self) -> None:
        """Add items with the features of others; from the second round on, delete those of the round before."""
        number = self.counts["upserted items"]
        start = 10_000_000_000 + number
        items = [
            Item(item_id=str(start + i), features=self._known[int(self._rng.integers(len(self._known)))].features)
            for i in range(ITEMS_AT_ONCE)
        ]
        answer = await self._catalog.UpsertItems(UpsertItemsRequest(items=items), timeout=CALL_SECONDS)
        wrong = [s for s in answer.statuses if s.outcome == UpsertStatus.REJECTED or not s.searchable]
        if wrong:
            self._note(f"upsert: {wrong[0]}")
        self.counts["upserted items"] += len(items)
        if number:
            gone = [str(start - ITEMS_AT_ONCE + i) for i in range(ITEMS_AT_ONCE)]
            await self._catalog.DeleteItems(DeleteItemsRequest(item_ids=gone), timeout=CALL_SECONDS)
            self.counts["deleted items"] += len(gone)

    async def record(self) -> None:
        """Record events of random users with known items."""
        now = time.time_ns() // 1000
        events = [
            Event(
                event_id=uuid4().hex,
                user_id=str(self._rng.choice(self._users)),
                item_id=self._known[int(self._rng.integers(len(self._known)))].item_id,
                timestamp_us=now + i,
            )
            for i in range(EVENTS_AT_ONCE)
        ]
        answer = await self._feedback.RecordEvents(RecordEventsRequest(events=events), timeout=CALL_SECONDS)
        wrong = [s for s in answer.statuses if s.outcome != EventStatus.RECORDED]
        if wrong:
            self._note(f"record: {wrong[0]}")
        self.counts["events"] += len(events) - len(wrong)

    def _note(self, text: str) -> None:
        self.counts["errors"] += 1
        if len(self.errors) < 20:
            self.errors.append(text)


async def soak(target: Target, changes: Changes, rate: float, minutes: float) -> Soak:
    """Load a server at a steady rate while bundles, items and events change.

    Args:
        target: the server.
        changes: what changes.
        rate: Retrieve calls a second.
        minutes: how long.
    """
    until = time.monotonic() + minutes * 60
    making = [
        asyncio.create_task(changes.every(SWAP_EVERY, changes.swap, until)),
        asyncio.create_task(changes.every(UPSERT_EVERY, changes.upsert, until)),
        asyncio.create_task(changes.every(EVENT_EVERY, changes.record, until)),
    ]
    statuses: Counter[str] = Counter()
    p99: list[float] = []
    memory: list[int] = []
    files: list[int] = []
    while time.monotonic() < until:
        part = await stretch(target, rate, min(STRETCH_SECONDS, max(1.0, until - time.monotonic())), seed=len(p99))
        statuses.update(part.load.statuses)
        p99.append(round(part.load.percentile(99), 3))
        used = Usage.of(target.pid)
        memory.append(used.proportional_bytes)
        files.append(used.open_files)
    await asyncio.gather(*making)
    return Soak(
        minutes=minutes,
        rate=rate,
        statuses=dict(statuses),
        changes=dict(changes.counts),
        errors=changes.errors,
        p99_ms=p99,
        memory=memory,
        open_files=files,
    )
