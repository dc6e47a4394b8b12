"""The path of a quick request through the source: how many of our files it passes, and what is decided how often."""

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import pytest

from rf_protos.v1.retrieval_pb2 import RetrieveRequest
from rf_serving.user_features import online_reader

ROOT = Path(__file__).parents[2]
SOURCES = tuple(str(ROOT / layer) for layer in ("platform", "training", "serving"))
MOST_FILES = 52
"""Files from the interceptor to the served tower; whatever adds one makes a request harder to follow."""


class Passed(NamedTuple):
    """A function that ran."""

    file: str
    function: str


def calls_in(loop: asyncio.AbstractEventLoop, work: Callable[[], object]) -> list[Passed]:
    """Return the calls of our functions that an event loop makes while ``work`` runs in this thread."""
    passed: list[Passed] = []

    def trace(frame: FrameType, event: str, _: Any) -> None:
        code = frame.f_code
        if code.co_filename.startswith(SOURCES):
            passed.append(Passed(str(Path(code.co_filename).relative_to(ROOT)), code.co_qualname))

    async def switch(to: Any) -> None:
        sys.settrace(to)

    asyncio.run_coroutine_threadsafe(switch(trace), loop).result()
    try:
        work()
    finally:
        asyncio.run_coroutine_threadsafe(switch(None), loop).result()
    return passed


@pytest.fixture
def passed(server: Any, monkeypatch: pytest.MonkeyPatch) -> list[Passed]:
    """The calls for a known user of a store that is read in the event loop, after the first requests."""
    monkeypatch.setattr(online_reader, "_INLINE_SECONDS", 60.0)  # however busy the machine is
    request = RetrieveRequest(user_id="30", k=10, exclude_seen=True)
    for _ in range(3):
        server.retriever._reads._away_until = server.retriever._quick._slow_until = 0.0
        server.stub.Retrieve(request)
    server.retriever._reads._away_until = server.retriever._quick._slow_until = 0.0
    return calls_in(server.loop, lambda: server.stub.Retrieve(request))


def test_few_files(passed: list[Passed]) -> None:
    files = sorted({each.file for each in passed})
    assert "serving/rf_serving/server/interceptor.py" in files
    assert "serving/rf_serving/index/exact.py" in files
    assert len(files) <= MOST_FILES, "\n".join(files)


@pytest.mark.parametrize("function", ["SecondStage.order_of", "Engine.quick", "QuickRanker.rank", "Routing.route_of"])
def test_decided_once(passed: list[Passed], function: str) -> None:
    assert [each.function for each in passed].count(function) == 1
