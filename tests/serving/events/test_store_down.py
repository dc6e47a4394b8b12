"""The online store goes away while events come in."""

import asyncio
import os
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rf_protos.v1.feedback_pb2 import Event, EventStatus

SECOND = 1_000_000


def record(intake: Any, name: str, user: str, item: str, when: int) -> None:
    event = Event(event_id=name, user_id=user, item_id=item, timestamp_us=when)
    (status,) = asyncio.run(intake.record([event], lambda item: True))
    assert status.outcome == EventStatus.RECORDED


def wait_until_applied(log: Any, seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while log.state().applied < log.head():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_sqlite_that_is_locked(open_shop: Callable[..., Any], tmp_path: Path, logs: Any) -> None:
    from rf_serving.events import EventIntake

    shop = open_shop(tmp_path, users=3, items=10, events=5)
    intake = EventIntake(shop.settings, shop.store)
    now = int(time.time()) * SECOND
    said_before = len(logs.entries)
    try:
        log = shop.log
        record(intake, "a", "301", "101", now)
        wait_until_applied(log)
        with sqlite3.connect(shop.settings.workspace.feast / "online.db", isolation_level=None) as other:
            other.execute("BEGIN EXCLUSIVE")
            for n in range(5):
                record(intake, f"b{n}", "301", str(102 + n), now + 1 + n)
            time.sleep(3)
            assert log.state().applied == 1
            other.execute("ROLLBACK")
        wait_until_applied(log)
        assert shop.online([301])[301]["item_ids"] == [101, 102, 103, 104, 105, 106]
        said = [entry["event"] for entry in logs.entries[said_before:]]
        assert said.count("events wait for the online store") == 1
        assert said.count("events are applied again") == 1
    finally:
        intake.close()


@pytest.mark.redis
def test_redis_that_is_cut_off_and_one_that_hangs(
    open_shop: Callable[..., Any], tmp_path: Path, make_proxy: Callable[[str], Any]
) -> None:
    from rf_serving.events import EventIntake

    url = os.environ.get("RF_TEST_REDIS_URL")
    if not url:
        pytest.skip("RF_TEST_REDIS_URL is not set")
    proxy = make_proxy(url)
    shop = open_shop(tmp_path, proxy.url, users=3, items=10, events=5)
    intake = EventIntake(shop.settings, shop.store)
    now = int(time.time()) * SECOND
    try:
        log = shop.log
        expected = []
        for n, trouble in enumerate((proxy.cut, proxy.hang)):
            record(intake, f"x{n}", "301", str(101 + 4 * n), now + 10 * n)
            wait_until_applied(log)
            trouble()
            applied = log.state().applied
            for k in range(3):
                record(intake, f"y{n}{k}", "301", str(102 + 4 * n + k), now + 10 * n + 1 + k)
            time.sleep(2.5)
            assert log.state().applied == applied
            proxy.heal()
            wait_until_applied(log)
            expected += [101 + 4 * n + k for k in range(4)]
            from rf_platform.features.store import open_store

            shop.store = open_store(shop.settings)  # Feast's own connection was cut as well
            assert shop.online([301])[301]["item_ids"] == expected
    finally:
        intake.close()
        proxy.close()
