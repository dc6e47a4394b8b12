"""``rf bench catalog``: its arithmetic, and a short run against real servers."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc.aio
import pytest

from rf_bench.catalog import events
from rf_bench.catalog.benchmark import CatalogLoad, Measured, Seen, measure
from rf_platform.errors import RunError
from rf_platform.settings import Settings

REPOSITORY = Path(__file__).parents[3] / "feature_repo" / "movielens"


def test_a_change_has_arrived_with_the_first_answer_that_takes_it_into_account() -> None:
    measured = Measured(
        acknowledged=[Seen(1.0, 5), Seen(2.0, 7), Seen(3.5, 8)],
        answers=[Seen(0.9, 4), Seen(1.25, 6), Seen(1.5, 6), Seen(3.0, 8), Seen(4.0, 8)],
    )
    assert measured.delays() == [0.25, 1.0, 0.0]
    measured.acknowledged.append(Seen(4.0, 9))
    with pytest.raises(RunError, match="change 9 was acknowledged, and the second server never had it"):
        measured.delays()


def test_what_one_server_acknowledges_the_other_one_finds(
    running: Any, workspace: Path, start_server: Callable[..., Any]
) -> None:
    load = CatalogLoad(seconds=2, reads=40, upserts=10, batch=3, events=10)
    users, items = ["1", "9", "17"], ["1", "2", "3"]
    with start_server(Settings(home=workspace, feature_repo=REPOSITORY)) as second:
        measured = asyncio.run(measure(running.server.address, second.server.address, users, items, load))
    found = measured.figures()
    assert set(found.statuses) == {"OK"}
    assert found.items == 3 * found.upserts > 3
    delay = found.milliseconds["acknowledged to searchable elsewhere"]
    assert 0 <= delay.p50 <= delay.p99 <= delay.max
    for name in ("first", "second"):
        delay = found.milliseconds[f"event acknowledged by {name} server to answered by the other"]
        assert 0 < delay.p50 <= delay.max
    assert found.events >= 2


def test_an_event_that_never_arrives_is_no_figure(running: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "ARRIVE_SECONDS", 0.1)

    async def never(*_: object) -> str:
        return "0"

    monkeypatch.setattr(events, "_last", never)

    async def try_it() -> None:
        async with grpc.aio.insecure_channel(running.server.address) as channel:
            both = {"first": channel, "second": channel}
            await events.record(both, ["1"], ["1", "2"], 10, time.perf_counter() + 60)

    with pytest.raises(RunError, match="an event of user 1 was acknowledged, and is in no answer of the second server"):
        asyncio.run(try_it())
