"""``rf bench arrivals`` against real servers."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from prometheus_client import generate_latest

from rf_bench.arrivals.measure import ArrivalLoad, Watched, measure
from rf_platform.settings import Settings

REPOSITORY = Path(__file__).parents[3] / "feature_repo" / "movielens"


def test_the_first_event_of_a_new_item_is_timed_until_another_server_has_moved_it(
    running: Any, workspace: Path, start_server: Callable[..., Any]
) -> None:
    def watched(server: Any) -> Watched:
        return Watched(server.server.address, os.getpid(), lambda: generate_latest(server.metrics.registry).decode())

    load = ArrivalLoad(seconds=1, events=20, probes=1)
    users, items = ["1", "9", "17"], ["1", "2", "3", "4", "5"]
    with start_server(Settings(home=workspace, feature_repo=REPOSITORY)) as second:
        found = asyncio.run(measure(watched(running), watched(second), users, items, load))
    (delay,) = found.delays
    assert 0 < delay < 60
    assert found.noted >= 1
    assert found.events > 2
    assert found.cpu_first_ms > 0
