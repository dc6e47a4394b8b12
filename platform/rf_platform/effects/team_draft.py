"""Team-draft interleaving: two bundles fill one list in turns, and what is taken from it is credited to the one that gave it.

Radlinski, Kurup and Joachims, "How does clickthrough data reflect retrieval quality?" (CIKM 2008). Each user compares both
bundles at once, so a difference shows with far fewer users than by a split. It says which bundle's items are preferred, not
how much more is taken in all.
"""

from collections.abc import Hashable, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

Item = TypeVar("Item", bound=Hashable)


class Drafted(NamedTuple):
    """A place of an interleaved list."""

    team: int
    """0 or 1: the list that the item was taken from."""
    place: int
    """Place in that list, from 0."""


def draft(first: Sequence[Item], second: Sequence[Item], k: int, random: np.random.Generator) -> list[Drafted]:
    """Return an interleaved list of two.

    In each round a coin decides which team chooses first; each takes its best item that is not in the list yet.

    Args:
        first: items of team 0, best first, each once.
        second: of team 1.
        k: places.
        random: decides.
    """
    lists = (first, second)
    taken: set[Item] = set()
    at = [0, 0]
    drafted: list[Drafted] = []
    while len(drafted) < k:
        begins, before = int(random.integers(2)), len(drafted)
        for team in (begins, 1 - begins):
            while at[team] < len(lists[team]) and lists[team][at[team]] in taken:
                at[team] += 1
            if at[team] < len(lists[team]) and len(drafted) < k:
                taken.add(lists[team][at[team]])
                drafted.append(Drafted(team, at[team]))
        if len(drafted) == before:
            break
    return drafted


def preferences(
    credits_first: npt.NDArray[np.float64], credits_second: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Return the preference of each user, -1 (first) to 1 (second): the difference of the credits over their sum.

    Users without a credit have none, and are left out: they took nothing of either.
    """
    total = credits_first + credits_second
    some = total > 0
    return np.asarray((credits_second[some] - credits_first[some]) / total[some])
