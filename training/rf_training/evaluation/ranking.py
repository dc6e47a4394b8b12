"""The rank of each held-out item among the whole catalog, with ties broken fairly."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rf_platform.cli.console import Tracker
from rf_platform.errors import RunError
from rf_training.evaluation.cases import LeaveOneOutCases
from rf_training.evaluation.jagged import Jagged
from rf_training.evaluation.scorer import Scorer

MAX_SCORES = 1 << 23
"""Most scores held at once: 32 MiB of float32, whatever the size of the catalog (at least one user's)."""


@dataclass(frozen=True, eq=False)
class TargetRanks:
    """Rank of the target of each case, 1 = best, under both treatments of the items seen before."""

    kept: npt.NDArray[np.int64]
    """``[n_cases]``: rank among all items of the catalog."""
    excluded: npt.NDArray[np.int64]
    """``[n_cases]``: rank among the target and all items that are not in the user's history."""


def rank_targets(
    scorer: Scorer,
    cases: LeaveOneOutCases,
    *,
    seed: int | np.random.SeedSequence,
    chunk_users: int = 512,
    progress: Tracker | None = None,
) -> TargetRanks:
    """Rank the target of every case among the full catalog (no sampled candidates), in one pass over the scores.

    The rank is ``1 + #greater + uniform{0..#equal others}``: a target that shares its score with others takes a
    random place among them. Counting only ``#greater`` would put it first and reward a scorer for not telling items
    apart. The random numbers are drawn once per case from ``seed``, so results depend neither on the chunks nor on
    the scorer, and both treatments use the same draw.

    With seen items excluded, the items of the history leave the ranking, however often they occur there. The target
    never leaves it, even if the user consumed it before: the case asks for it, and dropping it would only record a
    certain miss.

    Args:
        scorer: What is evaluated; called with consecutive chunks of cases.
        cases: The cases, whose order the ranks keep.
        seed: Source of the random order of ties.
        chunk_users: Most users scored at once; fewer where their scores would exceed :data:`MAX_SCORES`.
        progress: Told the number of cases done after each chunk.

    Raises:
        RunError: If the scorer returns NaN or an array of the wrong shape.
    """
    tie_draws = np.random.default_rng(seed).random(len(cases))
    ranks = TargetRanks(np.empty(len(cases), np.int64), np.empty(len(cases), np.int64))
    step = max(1, min(chunk_users, MAX_SCORES // cases.n_items))
    for start in range(0, len(cases), step):
        chunk = slice(start, min(start + step, len(cases)))
        users, targets = cases.users[chunk], cases.targets[chunk]
        histories = cases.histories(chunk.start, chunk.stop)
        scores = scorer.scores(users, histories)
        _check_scores(scorer, scores, users, cases.n_items)
        target_scores = scores[np.arange(len(users)), targets]
        greater = np.count_nonzero(scores > target_scores[:, None], axis=1)
        others_equal = np.count_nonzero(scores == target_scores[:, None], axis=1) - 1
        ranks.kept[chunk] = _place(greater, others_equal, tie_draws[chunk])
        seen_greater, seen_equal = _count_seen(scores, target_scores, histories, targets)
        ranks.excluded[chunk] = _place(greater - seen_greater, others_equal - seen_equal, tie_draws[chunk])
        if progress is not None:
            progress.advance(len(users))
    return ranks


def _place(
    greater: npt.NDArray[np.int64], others_equal: npt.NDArray[np.int64], draws: npt.NDArray[np.float64]
) -> npt.NDArray[np.int64]:
    """Ranks from the number of better items, of equal ones, and a uniform draw from [0, 1) for each case."""
    return 1 + greater + (draws * (others_equal + 1)).astype(np.int64)


def _count_seen(
    scores: npt.NDArray[np.float32],
    target_scores: npt.NDArray[np.float32],
    histories: Jagged,
    targets: npt.NDArray[np.int64],
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """How many distinct seen items, the target aside, score higher than the target, and how many the same."""
    n_items = scores.shape[1]
    rows, items = np.divmod(np.unique(histories.row_of_value * n_items + histories.values), n_items)
    others = items != targets[rows]
    rows, items = rows[others], items[others]
    seen_scores = scores[rows, items]
    greater = np.bincount(rows[seen_scores > target_scores[rows]], minlength=len(targets))
    equal = np.bincount(rows[seen_scores == target_scores[rows]], minlength=len(targets))
    return greater, equal


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
