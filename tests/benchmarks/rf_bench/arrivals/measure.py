"""A flood of events on one server, and the moves of new items by their first events on another one.

A visitor with a fixed history asks the second server for one new item alone. Its score changes when its vector does, and for
no other reason: that is when the event has become searchable.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.request import urlopen
from uuid import uuid4

import grpc.aio
import numpy as np
from prometheus_client.parser import text_string_to_metric_families

from rf_bench.serve.processes import Scheduling
from rf_platform.errors import RunError
from rf_protos.v1.catalog_pb2 import GetItemsRequest, Item, UpsertItemsRequest
from rf_protos.v1.catalog_pb2_grpc import CatalogServiceStub
from rf_protos.v1.feedback_pb2 import Event, EventStatus, RecordEventsRequest
from rf_protos.v1.feedback_pb2_grpc import FeedbackServiceStub
from rf_protos.v1.filter_pb2 import Filter
from rf_protos.v1.retrieval_pb2 import Interaction, RetrieveRequest, Session
from rf_protos.v1.retrieval_pb2_grpc import RetrievalServiceStub
from rf_serving.background_server import BackgroundServer

CALL_SECONDS = 30.0
ARRIVE_SECONDS = 60.0
"""Time after which an event counts as lost."""
DRAIN_SECONDS = 120.0
"""Longest wait until the online store has all events."""
_TICK_SECONDS, _PAUSE_SECONDS = 0.1, 0.02
_FIRST_NEW_ID = 10**12
_MOVED = 1e-6


@dataclass(frozen=True, kw_only=True)
class ArrivalLoad:
    """Load on the first server."""

    seconds: float
    events: float
    """Events a second, a tenth of them in each call."""
    probes: int
    """New items, each with one event meanwhile; 0 only loads."""


@dataclass(frozen=True)
class Watched:
    """A server under load."""

    address: str
    pid: int
    metrics: Callable[[], str]
    """Returns its metrics, as Prometheus reads them."""

    @classmethod
    def of(cls, server: BackgroundServer) -> "Watched":
        """Return what is known of a process that was started with ``--metrics-port``."""
        url = f"http://127.0.0.1:{server.serving['metrics_port']}/metrics"
        return cls(server.address, server.process.pid, lambda: urlopen(url, timeout=10).read().decode())


@dataclass(frozen=True, kw_only=True)
class Learned:
    """Figures of one run."""

    events: int
    """Acknowledged."""
    events_a_second: float
    delays: list[float]
    """From each acknowledgement to the first answer of the other server in which the item has moved, in seconds."""
    noted: int
    """Events that items learned from."""
    skipped: int
    """Events that were too many at once."""
    drained_seconds: float
    """From the end of the flood until the online store had all of it."""
    cpu_seconds: dict[str, float]
    """CPU time of each server from the first event until everything was over."""
    waiting_share: float | None
    """Share of that time during which something on the machine waited for a CPU; None where the system does not tell."""

    @property
    def cpu_first_ms(self) -> float:
        """CPU time of the first server for an event, in milliseconds."""
        return self.cpu_seconds["first"] * 1000 / self.events

    @property
    def cpu_second_ms(self) -> float:
        """CPU time of the second server for an event, in milliseconds."""
        return self.cpu_seconds["second"] * 1000 / self.events


@dataclass
class _Flood:
    acknowledged: int = 0
    seconds: float = 0.0
    turn: int = field(default_factory=lambda: time.time_ns() // 1000)


async def measure(first: Watched, second: Watched, users: list[str], items: list[str], load: ArrivalLoad) -> Learned:
    """Send events to the first server, and watch new items on the second.

    Args:
        first: gets the events.
        second: follows it.
        users: users with a history, more than ``load.probes``.
        items: ids of the catalog.
        load: how much.

    Raises:
        RunError: an event was not recorded, or moved nothing in time, or the store never had all events.
    """
    servers = {"first": first, "second": second}
    own, crowd = users[: load.probes], users[load.probes :]
    async with grpc.aio.insecure_channel(first.address) as one, grpc.aio.insecure_channel(second.address) as other:
        new = await _new_items(one, items[0], load.probes)
        probe = _Probe(one, other, items[:5])
        for item in new:
            await probe.score(item)
        before, flood = {name: Scheduling.of(each.pid) for name, each in servers.items()}, _Flood()
        told_before = _told(first)
        delays, _ = await asyncio.gather(probe.delays(own, new, load.seconds), _send(one, crowd, items, load, flood))
        over = time.perf_counter()
        await _drained(first)
        drained = time.perf_counter() - over
        await asyncio.sleep(2)
        after, told = {name: Scheduling.of(each.pid) for name, each in servers.items()}, _told(first)
    passed = after["first"].moment - before["first"].moment
    pressures = before["first"].pressure_seconds, after["first"].pressure_seconds
    return Learned(
        events=flood.acknowledged + len(new),
        events_a_second=flood.acknowledged / flood.seconds,
        delays=delays,
        noted=round(told.get("NOTED", 0) - told_before.get("NOTED", 0)),
        skipped=round(told.get("SKIPPED", 0) - told_before.get("SKIPPED", 0)),
        drained_seconds=drained,
        cpu_seconds={name: after[name].cpu_seconds - before[name].cpu_seconds for name in servers},
        waiting_share=None if None in pressures else (pressures[1] - pressures[0]) / passed,  # type: ignore[operator]
    )


class _Probe:
    """Asks the second server for single items, on behalf of a visitor with a history that never changes."""

    def __init__(self, one: grpc.aio.Channel, other: grpc.aio.Channel, history: list[str]) -> None:
        self._recorder = FeedbackServiceStub(one)  # type: ignore[no-untyped-call]
        self._reader = RetrievalServiceStub(other)  # type: ignore[no-untyped-call]
        self._visitor = Session(history=[Interaction(item_id=item) for item in history])

    async def score(self, item: str) -> float:
        """Return the item's score as soon as the server has the item."""
        until = time.perf_counter() + ARRIVE_SECONDS
        request = RetrieveRequest(session=self._visitor, k=1, filter=Filter(allow_items=[item]))
        while time.perf_counter() < until:
            answer = await self._reader.Retrieve(request, timeout=CALL_SECONDS)
            if answer.items:
                return float(answer.items[0].score)
            await asyncio.sleep(_PAUSE_SECONDS)
        raise RunError(f"the second server does not return item {item} within {ARRIVE_SECONDS:g} s")

    async def delays(self, users: list[str], items: list[str], seconds: float) -> list[float]:
        """Record one event of each item, evenly over the time, and return how long each took to move it."""
        found, begin = [], time.perf_counter()
        for turn, (user, item) in enumerate(zip(users, items, strict=True)):
            await asyncio.sleep(max(0.0, begin + seconds * turn / len(items) - time.perf_counter()))
            was = await self.score(item)
            await _record(self._recorder, [_event(user, item, time.time_ns() // 1000)])
            acknowledged = time.perf_counter()
            while abs(await self.score(item) - was) < _MOVED:
                if time.perf_counter() > acknowledged + ARRIVE_SECONDS:
                    raise RunError(f"item {item} does not move within {ARRIVE_SECONDS:g} s of its first event")
                await asyncio.sleep(_PAUSE_SECONDS)
            found.append(time.perf_counter() - acknowledged)
        return found


async def _new_items(channel: grpc.aio.Channel, like: str, count: int) -> list[str]:
    if not count:
        return []
    catalog = CatalogServiceStub(channel)  # type: ignore[no-untyped-call]
    (known,) = (await catalog.GetItems(GetItemsRequest(item_ids=[like]), timeout=CALL_SECONDS)).items
    ids = [str(_FIRST_NEW_ID + int(each)) for each in np.random.default_rng().integers(0, 2**60, count)]
    items = [Item(item_id=each, features=known.item.features) for each in ids]
    await catalog.UpsertItems(UpsertItemsRequest(items=items), timeout=CALL_SECONDS)
    return ids


async def _send(
    channel: grpc.aio.Channel, users: list[str], items: list[str], load: ArrivalLoad, flood: _Flood
) -> None:
    recorder, rng = FeedbackServiceStub(channel), np.random.default_rng(0)  # type: ignore[no-untyped-call]
    begin = time.perf_counter()
    at_once = max(1, round(load.events * _TICK_SECONDS))
    for tick in range(round(load.seconds / _TICK_SECONDS)):
        await asyncio.sleep(max(0.0, begin + tick * _TICK_SECONDS - time.perf_counter()))
        events = []
        for user, item in zip(rng.choice(users, at_once), rng.choice(items, at_once), strict=True):
            flood.turn += 1
            events.append(_event(str(user), str(item), flood.turn))
        await _record(recorder, events)
        flood.acknowledged += len(events)
        if time.perf_counter() > begin + load.seconds:  # it cannot take as many
            break
    flood.seconds = time.perf_counter() - begin


def _event(user: str, item: str, timestamp_us: int) -> Event:
    return Event(event_id=uuid4().hex, user_id=user, item_id=item, timestamp_us=timestamp_us)


async def _record(recorder: Any, events: list[Event]) -> None:
    answer = await recorder.RecordEvents(RecordEventsRequest(events=events), timeout=CALL_SECONDS)
    if wrong := [each for each in answer.statuses if each.outcome != EventStatus.RECORDED]:
        raise RunError(f"a new event gives {wrong[0]}")


async def _drained(server: Watched) -> None:
    until = time.perf_counter() + DRAIN_SECONDS
    while time.perf_counter() < until:
        told = await asyncio.to_thread(_told, server)
        if told["log"] == told["store"]:
            return
        await asyncio.sleep(0.2)
    raise RunError(f"the online store has not all events {DRAIN_SECONDS:g} s after the last one")


def _told(server: Watched) -> dict[str, float]:
    """Return positions of log and store, and the counts of events learned from, as the server's metrics have them."""
    labels = {"rf_events_position": "of", "rf_first_events_total": "outcome"}
    return {
        sample.labels[labels[sample.name]]: sample.value
        for family in text_string_to_metric_families(server.metrics())
        for sample in family.samples
        if sample.name in labels
    }
