"""Units of time: numbers of seconds, milliseconds or nanoseconds where microseconds are meant."""

from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_YEARS = (1980, 2100)
"""Of moments that are written down: a number that is such a moment in another unit is none in microseconds."""
_FIRST, _LAST = ((datetime(year, 1, 1, tzinfo=UTC) - _EPOCH) // timedelta(seconds=1) for year in _YEARS)
_DAY = 86_400_000_000
_UNITS = {"seconds": 1, "milliseconds": 1_000, "nanoseconds": 1_000_000_000}


def mistaken_unit(timestamp_us: int) -> str | None:
    """Return what is wrong with a time, given in microseconds since 1970, that is a likely moment in another unit.

    Seconds of 1980 to 2100 are the first minutes of 1970 in microseconds, milliseconds some weeks of that year; a whole day of
    those weeks counts as a date. None: nothing is wrong.
    """
    for unit, per_second in _UNITS.items():
        if not _FIRST * per_second <= timestamp_us < _LAST * per_second:
            continue
        if unit == "milliseconds" and timestamp_us % _DAY == 0:
            return None
        moment = _EPOCH + timedelta(seconds=timestamp_us // per_second)
        return (
            f"{timestamp_us} looks like {unit} since 1970 ({moment:%Y-%m-%dT%H:%M:%SZ}), and microseconds are meant; send "
            f"{timestamp_us * 1_000_000 // per_second}"
        )
    return None
