"""Scores of a list's items by its definition in the policy.

Shapes: S items that were counted.
"""

import numpy as np
import numpy.typing as npt

from rf_platform.features.event_weights import EventWeights
from rf_platform.policies import ListDefinition
from rf_serving.event_counts import Counted, CountOf, FirstOf

PAST = 8
"""Half-lives of the recent side of a trending list that make one of its past side."""
_DAY_US = 86_400_000_000


def counts_of(definition: ListDefinition, weights: EventWeights | None = None) -> tuple[CountOf | FirstOf, ...]:
    """Return what is counted for a list: nothing for one by a feature.

    Args:
        definition: of the policy.
        weights: of events, where the definition has none; None: all alike.
    """
    types = tuple(sorted(set(definition.event_types)))
    if definition.kind == "new":
        return () if definition.feature is not None else (FirstOf(event_types=types),)
    if definition.weights is not None:
        weights = EventWeights(types=tuple(sorted(definition.weights.items()))) if definition.weights else None
    half_life_us = max(1, round(definition.half_life_days * _DAY_US))
    lives = (half_life_us,) if definition.kind == "popular" else (half_life_us, PAST * half_life_us)
    return tuple(CountOf(half_life_us=each, event_types=types, weights=weights) for each in lives)


def scores_of(
    definition: ListDefinition, counted: Counted, weights: EventWeights | None = None
) -> npt.NDArray[np.float64] | None:
    """Return the score of each counted item [S], 0 where there is nothing to say; None: it is not counted yet.

    ``new``: the time of the first event. ``popular``: the decayed number of events. ``trending``: ``(r + s) / (e + s)`` of items
    for which it is above 1, that is, for which there is a rise. r is the decayed number of recent events, e the number that the
    item's own past lets expect (its decayed number with a half-life :data:`PAST` times as long, by :data:`PAST`), and s the
    smoothing.
    """
    found = [counted.by.get(each) for each in counts_of(definition, weights)]
    if any(each is None for each in found):
        return None
    if definition.kind != "trending":
        return found[0]
    recent_S, past_S = found
    assert recent_S is not None
    assert past_S is not None
    rise_S = (recent_S + definition.smoothing) / (past_S / PAST + definition.smoothing)
    return np.where(rise_S > 1, rise_S, 0.0)
