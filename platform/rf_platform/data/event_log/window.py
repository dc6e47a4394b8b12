"""Window of plausible event times."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from time import time

from rf_platform.time_units import mistaken_unit

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND = timedelta(seconds=1)


@dataclass(frozen=True, kw_only=True)
class EventWindow:
    """First and last time that an event may have: ``RF_EVENTS_SINCE`` and ``RF_EVENTS_AHEAD_SECONDS``."""

    since: date = date(1980, 1, 1)
    """The first day; earlier times are most likely in another unit. In 1970: times count from anywhere, and no unit is told."""
    ahead_seconds: float = 60.0
    """How far a caller's clock may run ahead."""
    clock: Callable[[], float] = time
    """Seconds since 1970."""

    def problem(self, timestamp_us: int) -> str | None:
        """Return what is wrong with the time of an event, in microseconds since 1970 (UTC); None if nothing is."""
        if timestamp_us <= 0:
            return f"{timestamp_us} is no time of an event; give microseconds since 1970, UTC"
        if self.since.year > _EPOCH.year and (unit := mistaken_unit(timestamp_us)):
            return unit
        seconds = timestamp_us / 1e6
        first = (datetime(self.since.year, self.since.month, self.since.day, tzinfo=UTC) - _EPOCH) // _SECOND
        if seconds < first:
            moment = _EPOCH + timedelta(seconds=int(seconds))
            return (
                f"{timestamp_us} is {moment:%Y-%m-%dT%H:%M:%SZ} in microseconds since 1970, before {self.since}, the first day "
                f"of events here (RF_EVENTS_SINCE)"
            )
        if (ahead := seconds - self.clock()) > self.ahead_seconds:
            return (
                f"{timestamp_us} lies {ahead:.0f} s in the future; microseconds since 1970, UTC, are meant, and clocks may be "
                f"{self.ahead_seconds:g} s ahead (RF_EVENTS_AHEAD_SECONDS)"
            )
        return None
