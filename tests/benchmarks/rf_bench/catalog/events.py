"""Events recorded on one server, and what the other one answers meanwhile: how long an acknowledged event takes to get there."""

import asyncio
import time
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import grpc.aio
import numpy as np

from rf_platform.errors import RunError
from rf_protos.v1.feedback_pb2 import Event, EventStatus, RecordEventsRequest
from rf_protos.v1.feedback_pb2_grpc import FeedbackServiceStub
from rf_protos.v1.retrieval_pb2 import RetrieveRequest
from rf_protos.v1.retrieval_pb2_grpc import RetrievalServiceStub

CALL_SECONDS = 10.0
ARRIVE_SECONDS = 30.0
"""Time after which an event counts as lost."""
_PAUSE_SECONDS = 0.005
"""Between two questions whether an event has arrived."""


@dataclass(kw_only=True)
class MeasuredEvents:
    """Observations, in seconds."""

    record_seconds: list[float] = field(default_factory=list)
    delays: dict[str, list[float]] = field(default_factory=lambda: {"first": [], "second": []})
    """From the acknowledgement by a server to the first answer of the other one with the event in its history."""


async def record(
    servers: dict[str, grpc.aio.Channel], users: list[str], items: list[str], rate: float, until: float
) -> MeasuredEvents:
    """Record one event at a time, on the two servers in turn, and ask the other one for the user until its answer has it.

    Args:
        servers: the two by name: ``first`` and ``second``.
        users: users of the events; each in turn, since the online store keeps whole seconds only.
        items: ids of the catalog, two at least.
        rate: events a second, at most.
        until: when to stop, as :func:`time.perf_counter` has it; each server records one event at least.

    Raises:
        RunError: an event was not recorded, or never arrived.
    """
    measured = MeasuredEvents()
    rng = np.random.default_rng()
    recorders = {name: FeedbackServiceStub(channel) for name, channel in servers.items()}  # type: ignore[no-untyped-call]
    readers = {name: RetrievalServiceStub(channel) for name, channel in servers.items()}  # type: ignore[no-untyped-call]
    for turn in range(10**9):
        if time.perf_counter() >= until and turn >= len(servers):
            break
        here, there = ("first", "second") if turn % 2 == 0 else ("second", "first")
        user, other = users[turn % len(users)], readers[there]
        last = await _last(other, user)
        item = next(each for each in rng.permutation(items).tolist() if each != last)
        event = Event(event_id=uuid4().hex, user_id=user, item_id=item, timestamp_us=time.time_ns() // 1000)
        begin = time.perf_counter()
        answer = await recorders[here].RecordEvents(RecordEventsRequest(events=[event]), timeout=CALL_SECONDS)
        acknowledged = time.perf_counter()
        if answer.statuses[0].outcome != EventStatus.RECORDED:
            raise RunError(f"a new event gives {answer.statuses[0]}")
        while await _last(other, user) != item:
            if time.perf_counter() > acknowledged + ARRIVE_SECONDS:
                raise RunError(f"an event of user {user} was acknowledged, and is in no answer of the {there} server")
            await asyncio.sleep(_PAUSE_SECONDS)
        measured.delays[here].append(time.perf_counter() - acknowledged)
        measured.record_seconds.append(acknowledged - begin)
        await asyncio.sleep(float(rng.exponential(1 / rate)))
    return measured


async def _last(server: Any, user: str) -> str | None:
    """Return the newest item of a user's history as an answer has it; None if the answer has none, or there is no answer."""
    try:
        answer = await server.Retrieve(RetrieveRequest(user_id=user, k=1, return_history=True), timeout=CALL_SECONDS)
    except grpc.aio.AioRpcError:  # shed, for example; the next one may be answered
        return None
    return answer.history[-1] if answer.history else None
