"""Jackknife of training events: the share of an event in its own item's vector, taken out again.

The towers were trained on the very events that a re-ranker learns from, and rank these far better than events to come: on Amazon
Toys 80% of the latest training events are among the first 100, of the validation events 30%. A re-ranker that learns from
them as they are learns to leave the retriever's order alone.

An item's vector is, to first order, a sum over its training events of the queries that it was the answer to. One event's part is
its query over the number of the item's events: ``y' = y - strength / events * query``, as in the jackknife (Efron, 1982). What
the event has left elsewhere in the towers is covered by the strength, which is chosen so that the retriever finds the training
events as often as it finds the validation targets.

Shapes: P positions, D width of the towers.
"""

from torch import Tensor
from torch.nn import functional as F

BISECTIONS = 30
MOST = 1024.0
"""Largest strength that is looked at."""


def left_out(unit_PD: Tensor, query_PD: Tensor, events_P: Tensor, strength: float) -> Tensor:
    """Return the unit vectors [P, D] of items without the share of one of their events.

    Args:
        unit_PD: their vectors.
        query_PD: the unit query of the event.
        events_P: training events of the item, at least 1.
        strength: see :func:`find_strength`.
    """
    return F.normalize(unit_PD - (strength / events_P)[:, None] * query_PD, dim=-1)


def find_strength(
    unit_PD: Tensor, bias_P: Tensor, query_PD: Tensor, events_P: Tensor, bar_P: Tensor, share: float
) -> float:
    """Return the least strength at which no more than ``share`` of the places have their positive above the bar.

    Args:
        unit_PD: vectors of the positives.
        bias_P: what the retriever adds to their scores for the item alone.
        query_PD: unit queries.
        events_P: training events of the positives.
        bar_P: the score that a positive has to reach at each place, that of the candidate in some place.
        share: of the validation targets that reach it.
    """

    def reached(strength: float) -> float:
        own_P = (left_out(unit_PD, query_PD, events_P, strength) * query_PD).sum(1) + bias_P
        return float((own_P > bar_P).float().mean())

    if reached(0.0) <= share:
        return 0.0
    low, high = 0.0, MOST
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if reached(middle) > share else (low, middle)
    return high
