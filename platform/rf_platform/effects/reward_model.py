"""Models of the reward for doubly robust estimates: how much an item earns, and how much a place is looked at."""

import numpy as np
from scipy.optimize import isotonic_regression

from rf_platform.effects.confidence_sequence import Floats
from rf_platform.effects.off_policy import Ints

FOLDS = 2
_PRIOR = 20.0
"""Places that the mean over all items counts for, in the rate of an item."""


def examination_by_place(place: Ints, reward: Floats, places: int) -> Floats:
    """Return how much an item is looked at at each place, relative to the first one; it never rises.

    Of items drawn at random the place says nothing about the item, so their mean reward by place is the effect of the place
    alone. The falling curve closest to the means is taken (isotonic regression); a place counts as one more with the mean of all.

    Args:
        place: of each drawn item; 0 is the first.
        reward: of each.
        places: of the curve.
    """
    if not reward.any():
        return np.ones(places)
    count, total = np.bincount(place, minlength=places), np.bincount(place, reward, minlength=places)
    mean = (total + reward.mean()) / (count + 1)
    curve = isotonic_regression(mean, weights=count + 1.0, increasing=False).x
    return np.asarray(curve / curve[0], np.float64)


def item_rates(item: Ints, reward: Floats, looked: Floats, fold: Ints, items: int) -> Floats:
    """Return the reward of each item at the first place, learned without one fold at a time ``[folds, items]``.

    The mean of an item is drawn towards that of all by :data:`_PRIOR` places, since most items have few.

    Args:
        item: number of the item of each place.
        reward: of each place.
        looked: examination of each place.
        fold: of each place; places of one user are in one fold.
        items: how many there are.
    """
    rates = np.empty((FOLDS, items))
    for number in range(FOLDS):
        others = fold != number
        seen = np.bincount(item[others], looked[others], minlength=items)
        gained = np.bincount(item[others], reward[others], minlength=items)
        mean = gained.sum() / max(seen.sum(), 1e-300)
        rates[number] = (gained + _PRIOR * mean) / (seen + _PRIOR)
    return rates
