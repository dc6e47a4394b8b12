"""Times in another unit than microseconds."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rf_platform.time_units import mistaken_unit

SECONDS = st.integers(315_532_800, 4_102_444_799)  # 1980 to 2099
DAY = 86_400_000_000


@given(seconds=SECONDS, fraction=st.integers(0, 999))
def test_every_other_unit_is_told_by_name_with_what_was_meant(seconds: int, fraction: int) -> None:
    assert mistaken_unit(seconds * 1_000_000 + fraction) is None
    milliseconds = seconds * 1_000 + fraction
    for given_, name, meant in (
        (seconds, "seconds", seconds * 1_000_000),
        (milliseconds, "milliseconds", milliseconds * 1_000),
        (seconds * 1_000_000_000, "nanoseconds", seconds * 1_000_000),
    ):
        if given_ == milliseconds and given_ % DAY == 0:
            continue
        found = mistaken_unit(given_) or ""
        assert f"looks like {name} since 1970" in found
        assert found.endswith(f"send {meant}")


@pytest.mark.parametrize("day", range(-30, 60))
def test_dates_around_1970_are_dates(day: int) -> None:
    assert mistaken_unit(day * DAY) is None


@pytest.mark.parametrize("early", [-1, 0, 1, 1_000_000, 299 * 1_000_000])
def test_other_small_numbers_say_nothing(early: int) -> None:
    assert mistaken_unit(early) is None
