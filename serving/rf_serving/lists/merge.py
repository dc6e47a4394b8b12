"""Merge of several sources of candidates into one order, without doubles.

Shapes: C candidates.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from rf_platform.policies import Source, Sources

RANKS = 60
"""Added to every rank: the difference between first places counts for less (Cormack et al., 2009)."""

Rows = npt.NDArray[np.int64]


class Merged(NamedTuple):
    """Candidates in one order, each from one source."""

    rows: Rows
    """[C]: best first, each once."""
    scores: npt.NDArray[np.float32]
    """[C]: of the merge, falling."""
    sources: list[str]
    """[C]: name of the source."""


def merge(sources: Sources, found: Mapping[str, Rows]) -> Merged:
    """Return the candidates of all sources in one order.

    By ``quotas``, each place goes to the source that has had least of its share so far, of equal ones the first in the policy; a
    source that has nothing more leaves its places to the others, and so does one without a quota until these are empty. The score
    is 1 / place. By ``rank``, an item's score is the sum of ``quota / (60 + rank)`` over the sources that have it, and its source
    the one that gives most.

    Args:
        sources: of the policy.
        found: rows of each source, best first; a source that is missing has none.
    """
    lists = [(each, list(dict.fromkeys(found[each.source].tolist()))) for each in sources.use if each.source in found]
    return _by_quotas(lists) if sources.merge == "quotas" else _by_rank(lists)


def _by_quotas(lists: Sequence[tuple[Source, list[int]]]) -> Merged:
    waiting = [list(reversed(rows)) for _, rows in lists]
    given = [0] * len(lists)
    taken: dict[int, str] = {}
    while open_ := [number for number, rows in enumerate(waiting) if rows]:
        # The next place falls to the source that would be furthest behind its share.
        number = min(open_, key=lambda each: (_turn(lists[each][0].quota, given[each]), each))
        row = waiting[number].pop()
        if row not in taken:
            taken[row] = lists[number][0].source
            given[number] += 1
    scores = (1 / np.arange(1, len(taken) + 1)).astype(np.float32)
    return Merged(np.fromiter(taken, np.int64, len(taken)), scores, list(taken.values()))


def _turn(quota: float, given: int) -> float:
    return (given + 1) / quota if quota else np.inf


def _by_rank(lists: Sequence[tuple[Source, list[int]]]) -> Merged:
    scores: dict[int, float] = {}
    best: dict[int, tuple[float, str]] = {}
    for source, rows in lists:
        for rank, row in enumerate(rows, 1):
            gain = source.quota / (RANKS + rank)
            scores[row] = scores.get(row, 0.0) + gain
            if row not in best or gain > best[row][0]:
                best[row] = gain, source.source
    ranked = sorted(scores, key=lambda row: -scores[row])  # of equal ones the first that came
    return Merged(
        np.array(ranked, np.int64),
        np.array([scores[row] for row in ranked], np.float32),
        [best[row][1] for row in ranked],
    )
