"""The rank of each held-out item among the whole catalog, with ties broken fairly."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from rf_platform.cli.console import Tracker
from rf_platform.errors import RunError
from rf_training.evaluation.cases import EvaluationCases
from rf_training.evaluation.scorer import Scorer

MAX_SCORES = 1 << 23
"""Most scores held at once: 32 MiB of float32, whatever the size of the catalog (at least one user's)."""


@dataclass(frozen=True, eq=False)
class TargetRanks:
    """Rank of the target of each case, 1 = best, among different candidates, and how many of these there are."""

    kept: npt.NDArray[np.int64]
    """``[n_cases]``: rank among all items of the catalog."""
    excluded: npt.NDArray[np.int64]
    """``[n_cases]``: rank among the target and all items that the user has not seen, in the history or beside it."""
    among_cold: npt.NDArray[np.int64]
    """``[n_cases]``: rank among those of them that have no training event; 0 where the target has one."""
    n_kept: npt.NDArray[np.int64]
    """``[n_cases]``: number of items behind :attr:`kept`, the target included."""
    n_excluded: npt.NDArray[np.int64]
    """``[n_cases]``: the same of :attr:`excluded`."""
    n_among_cold: npt.NDArray[np.int64]
    """``[n_cases]``: the same of :attr:`among_cold`; 0 where the target has a training event."""

    @classmethod
    def empty(cls, cases: EvaluationCases) -> "TargetRanks":
        """Room for the ranks of ``cases``."""
        n = len(cases)
        return cls(
            kept=np.zeros(n, np.int64),
            excluded=np.zeros(n, np.int64),
            among_cold=np.zeros(n, np.int64),
            n_kept=cases.n_items - _hidden_others(cases),
            n_excluded=np.zeros(n, np.int64),
            n_among_cold=np.zeros(n, np.int64),
        )


def rank_targets(
    scorer: Scorer,
    cases: EvaluationCases,
    *,
    seed: int | np.random.SeedSequence,
    chunk_users: int = 512,
    progress: Tracker | None = None,
) -> TargetRanks:
    """Rank the target of every case among the full catalog (no sampled candidates), in one pass over the scores.

    The rank is ``1 + #greater + uniform{0..#equal others}``: a target that shares its score with others takes a
    random place among them. Counting only ``#greater`` would put it first and reward a scorer for not telling items
    apart. The random numbers are drawn once per case from ``seed``, so results depend neither on the chunks nor on
    the scorer, and all rankings of a case use the same draw.

    With seen items excluded, the items of the history and those of events beside it leave the ranking, however often they
    occur. The target never leaves it, even if the user consumed it before: the case asks for it, and dropping it would only
    record a certain miss.

    A cold target, an item without any training event, is ranked a third time, among the cold items outside the history alone:
    that tells whether a scorer orders new items well from whether it lets them come up among the items it was trained on.

    Items that are not recommendable are no candidates either: a server never returns them. A target that is one stays, as its
    case asks for it.

    Args:
        scorer: What is evaluated; called with consecutive chunks of cases.
        cases: The cases; the ranks keep their order.
        seed: Source of the random order of ties.
        chunk_users: Most users scored at once; fewer where their scores would exceed :data:`MAX_SCORES`.
        progress: Told the number of cases done after each chunk.

    Raises:
        RunError: If the scorer returns NaN or an array of the wrong shape.
    """
    tie_draws = np.random.default_rng(seed).random(len(cases))
    ranks = TargetRanks.empty(cases)
    shown = np.ones(cases.n_items, np.bool_) if cases.hidden is None else ~cases.hidden
    cold_items, hidden_items = np.flatnonzero(~cases.trained & shown), np.flatnonzero(~shown)
    step = max(1, min(chunk_users, MAX_SCORES // max(1, cases.n_items)))
    for start in range(0, len(cases), step):
        chunk = slice(start, min(start + step, len(cases)))
        users, targets, draws = cases.users[chunk], cases.targets[chunk], tie_draws[chunk]
        histories = cases.histories(chunk.start, chunk.stop)
        scores = scorer.scores(users, histories)
        _check_scores(scorer, scores, users, cases.n_items)
        target_scores = scores[np.arange(len(users)), targets]
        rows, items = cases.seen(chunk.start, chunk.stop)
        others = (items != targets[rows]) & shown[items]
        rows, items = rows[others], items[others]

        every = _compare(scores, target_scores)
        if len(hidden_items):
            never = _compare(scores[:, hidden_items], target_scores)
            every = _Counts(every.greater - never.greater, every.equal - never.equal + cases.hidden_target[chunk])
        seen = _compare_pairs(scores, target_scores, rows, items)
        ranks.kept[chunk] = _place(every.greater, every.equal - 1, draws)
        ranks.excluded[chunk] = _place(every.greater - seen.greater, every.equal - 1 - seen.equal, draws)
        ranks.n_excluded[chunk] = ranks.n_kept[chunk] - np.bincount(rows, minlength=len(users))

        cold = np.flatnonzero(cases.cold[chunk])
        if len(cold):
            new = _compare(scores[np.ix_(cold, cold_items)], target_scores[cold])
            pairs = ~cases.trained[items]
            seen = _compare_pairs(scores, target_scores, rows[pairs], items[pairs])
            apart = cases.hidden_target[chunk][cold]  # the target is not among the columns
            equal = new.equal - ~apart - seen.equal[cold]
            places = _place(new.greater - seen.greater[cold], equal, draws[cold])
            ranks.among_cold[chunk.start + cold] = places
            n_seen = np.bincount(rows[pairs], minlength=len(users))
            ranks.n_among_cold[chunk.start + cold] = len(cold_items) + apart - n_seen[cold]
        if progress is not None:
            progress.advance(len(users))
    return ranks


def _hidden_others(cases: EvaluationCases) -> npt.NDArray[np.int64]:
    """Return the number of items that are no candidates of each case [n_cases]."""
    count = 0 if cases.hidden is None else int(np.count_nonzero(cases.hidden))
    return count - cases.hidden_target.astype(np.int64)


class _Counts(NamedTuple):
    """Numbers of items of each case that score higher than its target, and equal to it."""

    greater: npt.NDArray[np.int64]
    equal: npt.NDArray[np.int64]


def _compare(scores: npt.NDArray[np.float32], target_scores: npt.NDArray[np.float32]) -> _Counts:
    """Compare all columns with the target's score; the target, which is one of them, counts as equal to itself."""
    return _Counts(
        np.count_nonzero(scores > target_scores[:, None], axis=1),
        np.count_nonzero(scores == target_scores[:, None], axis=1),
    )


def _compare_pairs(
    scores: npt.NDArray[np.float32],
    target_scores: npt.NDArray[np.float32],
    rows: npt.NDArray[np.int64],
    items: npt.NDArray[np.int64],
) -> _Counts:
    """Compare the items given for each case with its target's score."""
    found, targets = scores[rows, items], target_scores[rows]
    return _Counts(
        np.bincount(rows[found > targets], minlength=len(scores)),
        np.bincount(rows[found == targets], minlength=len(scores)),
    )


def _place(
    greater: npt.NDArray[np.int64], others_equal: npt.NDArray[np.int64], draws: npt.NDArray[np.float64]
) -> npt.NDArray[np.int64]:
    """Ranks from the number of better items, of equal ones, and a uniform draw from [0, 1) for each case."""
    return 1 + greater + (draws * (others_equal + 1)).astype(np.int64)


def _check_scores(scorer: Scorer, scores: npt.NDArray[np.float32], users: npt.NDArray[np.int64], n_items: int) -> None:
    if scores.shape != (len(users), n_items):
        raise RunError(
            f"Scorer {scorer.name!r} returned scores of shape {scores.shape} for {len(users)} users and a catalog of "
            f"{n_items} items. Evaluate it on the dataset version it was trained on."
        )
    if np.isnan(scores.min()):
        rows, items = np.nonzero(np.isnan(scores))
        raise RunError(
            f"Scorer {scorer.name!r} returned NaN for {len(rows)} of {scores.size} scores, first for user row "
            f"{users[rows[0]]} and item row {items[0]}. NaN cannot be ranked: look for a diverged training run, or for "
            "NaN in numeric or vector features."
        )
