"""Times and choices of synthetic users.

Sessions come in bursts, at hours when people are awake. Each has a topic, one of the user's favourite cells, and popular items
of a cell are chosen more often.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rf_platform.data.synth.catalog import DAY, DAYS, START, SynthCatalog
from rf_platform.data.synth.options import SynthOptions
from rf_platform.data.synth.users import FAVOURITES, UTC_OFFSET, SynthUsers

FAVOURITE_SHARES = np.array([0.6, 0.3, 0.1])
TOPIC, OTHER_TASTE = 0.75, 0.15
"""Share of the events that keep to the session's topic, and of those that follow another taste of the user; the rest is
whatever is popular anywhere."""
ROUNDS, NARROW_ROUNDS = 7, 3
"""Most draws of a choice, repeated for an item that is not there yet or was chosen before by the user; and most draws within
its cell, before all styles of the category will do."""
EVENT_TYPES = ("view", "cart", "purchase")
_MEANT = np.cumsum([0.7, 0.16])
_CASUAL = np.cumsum([0.9, 0.07])
"""Shares of views and carts among events that follow a taste, and among the others; the rest are purchases."""

_EVENTS, _BEHAVIOURS = 6, 7


@dataclass(frozen=True, kw_only=True, eq=False)
class SynthEvents:
    """Events of a block of users, ordered by user and time; arrays are [events]."""

    user: npt.NDArray[np.int64]
    """Row of the user."""
    item: npt.NDArray[np.int64]
    """Row of the item."""
    timestamp: npt.NDArray[np.int64]
    """Microseconds since 1970."""
    event_type: npt.NDArray[np.int64]
    """Index in :data:`EVENT_TYPES`."""
    session: npt.NDArray[np.int64]
    """Number of the session within the block."""


def make_events(options: SynthOptions, catalog: SynthCatalog, users: SynthUsers, block: int) -> SynthEvents:
    """Draw the choices of a block of users."""
    rng = options.random(_EVENTS, block)
    sessions = make_sessions(users, rng)
    user, n = sessions.user, len(sessions.user)
    shares = np.cumsum(FAVOURITE_SHARES)[:-1]
    assert len(shares) == FAVOURITES - 1
    topic = np.searchsorted(shares, rng.random(sessions.session[-1] + 1), side="right")[sessions.session]
    other = np.searchsorted(shares, rng.random(n), side="right")
    kind = rng.random(n)
    meant = kind < TOPIC + OTHER_TASTE
    favourite = users.favourites[user, np.where(kind < TOPIC, topic, other)]
    popular = catalog.cell[catalog.by_cell[_anywhere(catalog, rng.random(n))]]
    if options.behaviours:
        uniform = options.random(_BEHAVIOURS, block).random(n)
        types = np.where(meant, np.searchsorted(_MEANT, uniform), np.searchsorted(_CASUAL, uniform))
        bought = types == EVENT_TYPES.index("purchase")
        favourite = np.where(bought, catalog.cheapest[favourite // catalog.styles], favourite)
    cell = np.where(meant, favourite, popular)
    item = _choose(catalog, cell, user, sessions.timestamp, rng)
    if not options.behaviours:
        uniform = rng.random(n)
        types = np.where(meant, np.searchsorted(_MEANT, uniform), np.searchsorted(_CASUAL, uniform))
    return SynthEvents(
        user=user + users.first,
        item=item,
        timestamp=sessions.timestamp,
        event_type=types,
        session=sessions.session,
    )


def _anywhere(catalog: SynthCatalog, uniform: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    position = np.searchsorted(catalog.reach, uniform * catalog.reach[-1], side="right") - 1
    items: npt.NDArray[np.int64] = np.minimum(position, len(catalog.by_cell) - 1)
    return items


def _choose(
    catalog: SynthCatalog,
    cell: npt.NDArray[np.int64],
    user: npt.NDArray[np.int64],
    timestamp: npt.NDArray[np.int64],
    rng: np.random.Generator,
) -> npt.NDArray[np.int64]:
    """Draw an item of each cell that is there at the time and, if that can be had in a few rounds, new to the user."""
    item = catalog.draw(cell, rng.random(len(cell))).astype(np.int64)
    for turn in range(ROUNDS):
        again = np.flatnonzero(_repeated(user, item) | (catalog.entry[item] >= timestamp))
        if len(again) == 0:
            break
        among = cell[again]
        if turn >= NARROW_ROUNDS:
            among = among // catalog.styles * catalog.styles + rng.integers(0, catalog.styles, len(again))
        item[again] = catalog.draw(among, rng.random(len(again)))
    missing = catalog.entry[item] >= timestamp
    item[missing] = catalog.anchor[cell[missing]]
    return item


def _repeated(user: npt.NDArray[np.int64], item: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Mark all choices of an item by a user but the first."""
    pair = user * (1 << 31) + item
    order = np.argsort(pair, kind="stable")  # the earliest of equals comes first
    repeated = np.zeros(len(user), bool)
    repeated[order[1:]] = np.diff(pair[order]) == 0
    return repeated


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
