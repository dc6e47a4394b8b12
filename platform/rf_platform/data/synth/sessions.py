"""Times of events: bursts within a session, hours to months between sessions, at hours when people are awake."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rf_platform.data.synth.catalog import DAY, DAYS, START
from rf_platform.data.synth.users import UTC_OFFSET, SynthUsers

SESSION_EVENTS = 4.0
"""Average events of a session."""
BREAK = 1_800_000_000
"""Least time between two sessions, half an hour, in microseconds."""
SECOND, HOUR = 1_000_000, 3_600_000_000


@dataclass(frozen=True, kw_only=True, eq=False)
class Sessions:
    """Times of the events of a block of users, ordered by user and time."""

    user: npt.NDArray[np.int64]
    """[events]: row in the block."""
    session: npt.NDArray[np.int64]
    """[events]: number of the session, over all users."""
    timestamp: npt.NDArray[np.int64]
    """[events]: microseconds since 1970, strictly rising within a user."""


def make_sessions(users: SynthUsers, rng: np.random.Generator) -> Sessions:
    """Cut the events of every user into sessions and set their times."""
    user = np.repeat(np.arange(len(users)), users.events)
    n = len(user)
    opens = rng.random(n) < 1 / SESSION_EVENTS
    opens[np.cumsum(users.events) - users.events] = True
    session = np.cumsum(opens) - 1
    begins = np.flatnonzero(opens)
    of = user[begins]

    # How long after the event before, within a session: a minute or so, sometimes much more.
    gap = np.maximum(SECOND, (rng.lognormal(np.log(60), 1.0, n) * SECOND).astype(np.int64))
    gap[begins] = 0
    after = np.cumsum(gap)
    after -= after[begins][session]  # since the start of the session
    lasted = after[np.append(begins[1:], n) - 1]

    start = _starts(users, of, rng)
    start = start[np.lexsort((start, of))]
    # A session that would begin before the one before has ended is put off: with what the sessions before it take summed up,
    # the start is the latest that any of them asks for. Users are kept apart by a shift longer than all of it.
    taken = np.cumsum(lasted + BREAK) - (lasted + BREAK)
    shift = of * (DAYS * DAY + int(taken[-1]) + DAY)
    start = np.maximum.accumulate(start - taken + shift) - shift + taken
    return Sessions(user=user, session=session, timestamp=start[session] + after)


def _starts(users: SynthUsers, of: npt.NDArray[np.int64], rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Return when sessions of the given users begin: any day since they joined, mostly in the evening, some around noon."""
    joined = users.joined[of]
    day = (joined + rng.random(len(of)) * (START + DAYS * DAY - joined)).astype(np.int64) // DAY * DAY
    hour = np.where(rng.random(len(of)) < 0.7, rng.normal(20, 2, len(of)), rng.normal(13, 2.5, len(of)))
    when = day + ((hour - UTC_OFFSET[users.country[of]]) % 24 * HOUR).astype(np.int64)
    # On the day of joining it may already have been later than that.
    return np.where(when > joined, when, joined + SECOND)
