"""Recorded events are in the next dataset, each exactly once."""

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from rf_platform.data.event_log import Event, EventParts
from rf_platform.settings import get_settings
from rf_protos.v1 import feedback_pb2


@pytest.fixture
def build(
    tmp_path: Path, open_shop: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[], Any]]:
    """``rf dataset build --json`` in a workspace, which is ``build.shop``."""
    shop = open_shop(tmp_path, users=6, items=20, events=6)
    monkeypatch.setenv("RF_HOME", str(tmp_path))
    monkeypatch.setenv("RF_FEATURE_REPO", str(tmp_path / "feature_repo"))
    get_settings.cache_clear()

    def run() -> Any:
        from rf_training.commands.dataset import app

        result = CliRunner().invoke(app, ["build", "--json"], catch_exceptions=False)
        return json.loads(result.stdout)

    run.shop = shop  # type: ignore[attr-defined]
    yield run
    get_settings.cache_clear()


def sequences(built: Any) -> dict[int, list[tuple[int, int]]]:
    """Item and time of every event, by user."""
    path = Path(built["path"])
    users, items = pq.read_table(path / "users.parquet"), pq.read_table(path / "items.parquet")
    item_of = dict(zip(items["item"].to_pylist(), items["item_id"].to_pylist(), strict=True))
    user_of = dict(zip(users["user"].to_pylist(), users["user_id"].to_pylist(), strict=True))
    offsets, item, when = (np.load(path / "sequences" / f"{name}.npy") for name in ("offsets", "item", "timestamp"))
    return {
        user_of[u]: [(item_of[int(item[i])], int(when[i])) for i in range(offsets[u], offsets[u + 1])]
        for u in range(len(offsets) - 1)
    }


def test_the_next_build_has_every_event_once_and_in_its_place(build: Any, event: Callable[..., Event]) -> None:
    log = build.shop.log
    before = sequences(build())
    assert sum(map(len, before.values())) == 36
    t0 = int(datetime(2024, 2, 1, tzinfo=UTC).timestamp()) * 1_000_000
    last_item, last_time = before[1][-1]
    assert build.shop.interactions.exists()
    some = [
        event(1, 1, 119, t0 + 5),
        event(2, 1, 118, t0),  # late
        event(3, 1, 117, t0 + 5),  # a tie: who came later stands behind
        event(4, 77, 500, t0),  # a user and an item that nobody knew
        event(5, 1, last_item, last_time),  # is in the table already
        event(6, 1, 116, before[1][0][1] - 1),  # before all others
    ]
    log.append([some[:3]])
    build()  # moves a part of them into a file
    log.append([some[3:]])
    log.append([some])
    built = build()
    after = sequences(built)
    assert after[77] == [(500, t0)]
    assert after[1] == [(116, before[1][0][1] - 1), *before[1], (118, t0), (119, t0 + 5), (117, t0 + 5)]
    assert {u: s for u, s in after.items() if u not in (1, 77)} == {u: s for u, s in before.items() if u != 1}
    assert built["counts"]["events"] == 36 + 5

    state = log.state()
    log.advance(state, log.head())  # the online store has them: they leave SQL
    again = build()
    assert (again["fingerprint"], again["new"]) == (built["fingerprint"], False)
    assert log.read(0, 10) == []


def test_an_import_leaves_recorded_events_alone(build: Any, event: Callable[..., Event], write_tables: Any) -> None:
    log = build.shop.log
    log.append([[event(1, 1, 119, int(datetime(2024, 2, 1, tzinfo=UTC).timestamp()) * 1_000_000)]])
    build()
    from rf_platform.data.replacing import replacing

    tables = build.shop.settings.workspace.tables
    with replacing(tables) as fresh:
        write_tables(fresh, users=6, items=20, events=5, seed=1)
    assert build()["counts"]["events"] == 6 * 5 + 1


def test_what_a_running_server_has_acknowledged_is_in_the_next_build(build: Any) -> None:
    """Nothing else moves events out of SQL, and the server need not stop, have applied them, or be busy."""
    from rf_platform.features.store import open_store
    from rf_serving.events import EventIntake

    settings = build.shop.settings
    before = build()["counts"]["events"]
    t0 = int(datetime(2024, 2, 1, tzinfo=UTC).timestamp()) * 1_000_000

    def record(intake: EventIntake, number: int) -> None:
        asked = feedback_pb2.Event(event_id=f"n{number}", user_id="2", item_id="118", timestamp_us=t0 + number)
        (status,) = asyncio.run(intake.record([asked], lambda item: True))
        assert status.outcome == feedback_pb2.EventStatus.RECORDED

    with closing(EventIntake(settings, open_store(settings), apply=False)) as waiting:
        record(waiting, 1)
        built = build()
        assert built["counts"]["events"] == before + 1
        assert sequences(built)[2][-1] == (118, t0 + 1)

    with closing(EventIntake(settings, open_store(settings))) as quiet:
        record(quiet, 2)
        log, deadline = build.shop.log, time.monotonic() + 30
        while log.state().applied < log.head():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert EventParts(settings.workspace.events).sealed == 1  # following the log puts nothing into files
        built = build()
        assert built["counts"]["events"] == before + 2
        assert sequences(built)[2][-2:] == [(118, t0 + 1), (118, t0 + 2)]
