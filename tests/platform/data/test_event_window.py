"""Which times an event may have."""

from datetime import UTC, date, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rf_platform.data.event_log import EventWindow

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC).timestamp()
WINDOW = EventWindow(clock=lambda: NOW)


def us(year: int, month: int, day: int, hour: int = 0, minute: int = 0) -> int:
    return round(datetime(year, month, day, hour, minute, tzinfo=UTC).timestamp() * 1e6)


@given(st.integers(us(1990, 1, 1), round((NOW + 86_400) * 1e6)))
def test_every_moment_of_the_window_is_taken(timestamp_us: int) -> None:
    assert WINDOW.problem(timestamp_us) is None


@given(st.integers(-(2**63), us(1990, 1, 1) - 1) | st.integers(round((NOW + 86_401) * 1e6), 2**63 - 1))
def test_nothing_outside_is(timestamp_us: int) -> None:
    assert (WINDOW.problem(timestamp_us) or "").startswith(str(timestamp_us))


@pytest.mark.parametrize(
    ("timestamp_us", "message"),
    [
        (0, "0 is no time of an event"),
        (us(1989, 12, 31, 23), "is 1989-12-31T23:00:00Z in microseconds since 1970, before 1990-01-01"),
        (1_795_996_115, "looks like seconds since 1970"),
        (1_795_996_115_279, "looks like milliseconds since 1970"),
        (1_795_996_115_279_642_880, "looks like nanoseconds since 1970"),
        (us(2026, 11, 30, 12, 2), "lies 86520 s in the future"),
    ],
)
def test_what_is_wrong_is_said(timestamp_us: int, message: str) -> None:
    assert message in (WINDOW.problem(timestamp_us) or "")


def test_the_window_can_be_moved() -> None:
    assert EventWindow(since=date(1950, 1, 1)).problem(us(1975, 6, 1)) is None
    assert EventWindow(ahead_seconds=300, clock=lambda: NOW).problem(us(2026, 11, 29, 12, 4)) is None
    counted = EventWindow(since=date(1970, 1, 1))  # from the first event on, in a catalog without dates
    assert counted.problem(1_795_996_115) is None
    later = EventWindow(since=date(2020, 1, 1), clock=lambda: NOW)
    assert "before 2020-01-01" in (later.problem(us(2019, 12, 31)) or "")
