"""Users: how much they do, what they like, and what is known of them."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rf_platform.data.synth.catalog import DAY, DAYS, START, SynthCatalog
from rf_platform.data.synth.options import SynthOptions

ARCHETYPES = 12
"""Kinds of users; each likes some categories and some of their styles more than others do."""
FAVOURITES = 3
"""Cells a user comes back to, the first one most of all."""
TRUE_SEGMENT = 0.85
"""Probability that the segment on record is the user's archetype."""
AGE_GROUPS = ("18-24", "25-34", "35-44", "45-54", "55-64", "65+")
COUNTRIES = ("DE", "US", "IN", "BR", "JP", "GB", "FR", "AU")
UTC_OFFSET = np.array([1.0, -6, 5.5, -3, 9, 0, 1, 10])
"""Hours ahead of UTC, by country."""
FEWEST_EVENTS = 5
"""Events that every user has, if there are enough for that."""

_ACTIVITY, _USERS, _TASTES = 3, 4, 5


@dataclass(frozen=True, kw_only=True, eq=False)
class SynthUsers:
    """A block of users."""

    first: int
    """Row of the first one; ids are rows + 1."""
    events: npt.NDArray[np.int64]
    """[users]: number of events."""
    joined: npt.NDArray[np.int64]
    """[users]: when they signed up, microseconds since 1970; before their first event."""
    favourites: npt.NDArray[np.int64]
    """[users, FAVOURITES]: cells."""
    segment: npt.NDArray[np.int64]
    """[users]: the archetype on record."""
    age_group: npt.NDArray[np.int64]
    """[users]: index in :data:`AGE_GROUPS`; older users like dearer things."""
    country: npt.NDArray[np.int64]
    """[users]: index in :data:`COUNTRIES`; decides when they are awake."""

    def __len__(self) -> int:
        return len(self.events)


def activity(options: SynthOptions) -> npt.NDArray[np.int64]:
    """Return the number of events of every user, [users]: heavy-tailed, ``options.events`` in all."""
    weights = np.empty(options.users)
    for block in range(options.blocks):
        start = block * options.users_per_block
        part = weights[start : start + options.users_per_block]
        part[:] = options.random(_ACTIVITY, block).lognormal(sigma=1.0, size=len(part))
    least = min(FEWEST_EVENTS, options.events // options.users)
    reach = np.cumsum(weights, out=weights)
    reach *= (options.events - least * options.users) / reach[-1]
    upto = np.rint(reach, out=reach).astype(np.int64)
    own: npt.NDArray[np.int64] = np.diff(upto, prepend=0) + least
    return own


def tastes(options: SynthOptions, catalog: SynthCatalog) -> npt.NDArray[np.float64]:
    """Return how likely each archetype is to like each cell, summed up over the cells: [archetypes, cells], ending at 1.

    On average over the archetypes a cell is liked in proportion to the popularity of its items, which keeps Zipf's law.
    """
    rng, cells = options.random(_TASTES), len(catalog.mass)
    by_category = rng.normal(scale=1.2, size=(ARCHETYPES, catalog.categories))
    category = np.arange(cells) // catalog.styles
    liking = np.exp(by_category[:, category] + rng.normal(scale=0.6, size=(ARCHETYPES, cells)))
    reach = np.cumsum(catalog.mass * liking / liking.mean(axis=0), axis=1)
    likes: npt.NDArray[np.float64] = reach / reach[:, -1:]
    return likes


def make_users(
    options: SynthOptions,
    catalog: SynthCatalog,
    likes: npt.NDArray[np.float64],
    events: npt.NDArray[np.int64],
    block: int,
) -> SynthUsers:
    """Make a block of users.

    Args:
        options: sizes and seed.
        catalog: all items.
        likes: as :func:`tastes` returns it.
        events: as :func:`activity` returns it.
        block: number of the block.
    """
    rng, first = options.random(_USERS, block), block * options.users_per_block
    own = events[first : first + options.users_per_block]
    n = len(own)
    archetype = rng.integers(0, ARCHETYPES, n)
    budget = rng.standard_normal(n)
    # Of two cells that the archetype suggests, the one with the better prices.
    uniform = rng.random((n, FAVOURITES, 2))
    suggested = np.empty((n, FAVOURITES, 2), np.int64)
    for kind in range(ARCHETYPES):
        mine = archetype == kind
        suggested[mine] = np.searchsorted(likes[kind], uniform[mine], side="right")
    suggested = np.minimum(suggested, likes.shape[1] - 1)
    apart = np.abs(catalog.premium[suggested] - budget[:, None, None])
    known = rng.random(n) < TRUE_SEGMENT
    age = 0.8 * budget + 0.6 * rng.standard_normal(n)
    countries = 1 / np.arange(1, len(COUNTRIES) + 1)
    return SynthUsers(
        first=first,
        events=own,
        joined=START + (0.7 * rng.random(n) ** 2 * DAYS * DAY).astype(np.int64),
        favourites=np.where(apart[..., 0] <= apart[..., 1], suggested[..., 0], suggested[..., 1]),
        segment=np.where(known, archetype, rng.integers(0, ARCHETYPES, n)),
        age_group=np.searchsorted([-1.0, -0.4, 0.2, 0.8, 1.4], age),
        country=np.searchsorted(np.cumsum(countries) / countries.sum(), rng.random(n)).clip(max=len(COUNTRIES) - 1),
    )
