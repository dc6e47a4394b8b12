"""Expiry of feature values: how long a row of a view counts, by the view's ttl.

One rule for training and serving. What holds at a moment is what was known just before it, one microsecond earlier: the newest
row of the entity that was known by then, and no value at all if that row was older than the ttl by then. An age of exactly
the ttl still counts, as in Feast. The joins of a dataset ask at the time of each event, the newest states of items and users
at the time of the build, and an online read at the time of the request.
"""

import time
from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_OLDEST_US = (datetime(2, 1, 1, tzinfo=UTC) - _EPOCH) // _MICROSECOND
"""Older than any row, and a time that every store can compare with."""


def now_us() -> int:
    """Return the present, in microseconds since 1970."""
    return time.time_ns() // 1000


def as_time(moment_us: int) -> datetime:
    """Return a moment, in microseconds since 1970, as a time, UTC."""
    return _EPOCH + timedelta(microseconds=moment_us)


def known_sql(known: str, moment: str) -> str:
    """Return the SQL condition that a row which is known from the time ``known`` on counts at ``moment``."""
    return f"epoch_us({known}) < epoch_us({moment})"


def alive_sql(timestamp: str, moment: str, ttl: timedelta | None) -> str:
    """Return the SQL condition that a row with this event timestamp has not expired at ``moment``; null stays null."""
    if ttl is None:
        return f"{timestamp} IS NOT NULL"
    return f"epoch_us({timestamp}) >= epoch_us({moment}) - {_reach_us(ttl)}"


def oldest_alive(moment_us: int, ttl: timedelta) -> datetime:
    """Return the oldest event timestamp, UTC, that has not expired at a moment, in microseconds since 1970."""
    return as_time(max(moment_us - _reach_us(ttl), _OLDEST_US))


def _reach_us(ttl: timedelta) -> int:
    """Return the largest age of a row at a moment, in microseconds: an age is counted from just before the moment."""
    return ttl // _MICROSECOND + 1
