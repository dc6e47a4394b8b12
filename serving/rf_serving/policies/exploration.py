"""Items drawn at random for a share of the places, with the probability of each draw.

Shapes: E eligible rows, M draws.
"""

from dataclasses import dataclass
from itertools import pairwise
from random import Random
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from rf_serving.bundle.served import ServedBundle
from rf_serving.catalog.base_segment import BaseSegment
from rf_serving.catalog.snapshot import CatalogSnapshot
from rf_serving.search.columns import are_among
from rf_serving.search.eligibility import Passing

Rows = npt.NDArray[np.int64]
_TRIES = 64
"""Draws before the rows that may not be drawn are taken out."""


class Untrained:
    """Items without an event when a bundle was trained; none where a bundle of an earlier version does not say."""

    def __init__(self, bundle: ServedBundle) -> None:
        self._bundle = bundle
        self._masks: WeakKeyDictionary[BaseSegment, npt.NDArray[np.bool_]] = WeakKeyDictionary()
        self._rows: WeakKeyDictionary[Passing, Rows] = WeakKeyDictionary()

    def among(self, passing: Passing, catalog: CatalogSnapshot) -> Rows:
        """Return the rows among those passing, rising."""
        if (rows := self._rows.get(passing)) is None:
            rows = passing.rows[self._mask(catalog)[passing.rows]]
            self._rows[passing] = rows
        return rows

    def _mask(self, catalog: CatalogSnapshot) -> npt.NDArray[np.bool_]:
        counts_N, ids = self._bundle.popularity_N, self._bundle.item_ids
        if counts_N is None:
            return np.zeros(catalog.rows, np.bool_)
        mask_N = self._masks.get(catalog.base)
        if mask_N is None:
            trained = catalog.base.find_rows([ids[row] for row in np.flatnonzero(counts_N)])
            mask_N = np.ones(catalog.base.rows, np.bool_)
            mask_N[trained[trained >= 0]] = False
            self._masks[catalog.base] = mask_N
        if catalog.delta is None:
            return mask_N
        row_of = self._bundle.row_of_item
        changed = [row_of.get(item) for item in catalog.delta.delta.ids[: catalog.rows - catalog.base.rows]]
        return np.append(mask_N, [row is None or counts_N[row] == 0 for row in changed])


@dataclass(frozen=True, eq=False)
class Draw:
    """Items drawn for an answer."""

    rows: list[int]
    places: list[int]
    """0 is the first; one in each of as many equal stretches of the list."""
    propensity: float
    """Probability of each item that could be drawn."""


NO_DRAW = Draw([], [], 0.0)


def draw(among: Rows, excluded: Rows, share: float, k: int, random: Random, most: int | None = None) -> Draw:
    """Draw items without replacement, each with the same probability.

    Args:
        among: rows to draw from, rising.
        excluded: rows that may not be drawn, rising and distinct.
        share: of the places, on average over answers.
        k: places.
        random: decides.
        most: draws at most; default: ``k``.
    """
    barred = set(excluded[are_among(excluded, among)].tolist())
    able = len(among) - len(barred)
    most = min(k if most is None else most, able)
    low, more = divmod(share * k, 1)
    count = min(int(low) + int(random.random() < more), most)
    if not able:
        return NO_DRAW
    expected = (1 - more) * min(int(low), most) + more * min(int(low) + 1, most)
    bounds = [k * number // count for number in range(count + 1)] if count else []
    places = [random.randrange(start, max(end, start + 1)) for start, end in pairwise(bounds)]
    return Draw(_distinct(among, barred, count, random), places, expected / able)


def _distinct(among: Rows, barred: set[int], count: int, random: Random) -> list[int]:
    drawn: dict[int, None] = {}
    for _ in range(_TRIES):
        if len(drawn) == count:
            return list(drawn)
        if (row := int(among[random.randrange(len(among))])) not in barred:
            drawn[row] = None
    rest = [row for row in among.tolist() if row not in barred and row not in drawn]
    return [*drawn, *random.sample(rest, count - len(drawn))]
