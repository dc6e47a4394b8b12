from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from rf_platform.data.event_log import Event, EventLog
from rf_platform.registry import ExperimentRecord
from rf_platform.settings import Settings
from rf_serving.experiments.answers import ANSWERS

BEGIN = datetime(2026, 5, 1, tzinfo=UTC)
HOUR = 3_600_000_000


def moment(hours: float) -> int:
    """Microseconds of a time so many hours after the begin."""
    return int((BEGIN + timedelta(hours=hours)).timestamp() * 1e6)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """An empty workspace."""
    (tmp_path / "tables").mkdir()
    return Settings(home=tmp_path)


@pytest.fixture
def record_events(settings: Settings) -> Callable[..., None]:
    """Record events: user, item, hours after the begin, and values."""

    def record(*events: tuple[str, str, float, dict[str, Any]]) -> None:
        log = EventLog.open(settings)
        made = [
            Event(
                event_id=f"{user}-{item}-{hours}-{n}",
                user_id=user,
                item_id=item,
                timestamp_us=moment(hours),
                values=values,
            )
            for n, (user, item, hours, values) in enumerate(events)
        ]
        log.append([made])
        log.close()

    return record


def answers(*rows: dict[str, Any]) -> pa.Table:
    """A table of answers; what is not given is plain."""
    plain = {
        "placement": "home",
        "policy_version": 1,
        "bundle": "old",
        "degraded": False,
        "milliseconds": 5.0,
        "sources": [],
        "propensities": [],
        "teams": [],
    }
    return pa.Table.from_pylist([{**plain, "request_id": f"r{n}", **row} for n, row in enumerate(rows)], schema=ANSWERS)


@pytest.fixture
def experiment() -> ExperimentRecord:
    """An experiment that counts purchases within a day, on half of the users."""
    return ExperimentRecord(
        name="new-1",
        control="old",
        challenger="new",
        percent=50.0,
        salt="s",
        settings={"outcome": ["purchase"], "window_seconds": 86_400.0, "users": 1000, "margin": 0.05},
        started_at=BEGIN,
        ended_at=None,
        finding=None,
        sentence="",
        note="",
    )
