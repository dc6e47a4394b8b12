"""Metrics of parts of a split: by the popularity of the item to find, by the length of the user's history."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rf_training.evaluation.bootstrap import Estimate, bootstrap_means, estimates
from rf_training.evaluation.cases import EvaluationCases
from rf_training.evaluation.metrics import NDCG, Recall
from rf_training.evaluation.metrics.metric import Metric

BANDS = ("head", "torso", "tail", "no training event")
"""Names of the popularity bands, by their code."""
COLD_BAND = BANDS.index("no training event")
HEAD_SHARE, TORSO_SHARE = 0.2, 0.6
"""Shares of the training events that the head and the torso hold; the rest is the tail's."""
HISTORY_BOUNDS = (5, 10, 20, 50, 200)
"""Longest history of each group but the last, in events."""
SEGMENT_METRICS: tuple[Metric, ...] = (Recall(20), NDCG(20))


@dataclass(frozen=True, kw_only=True)
class Segment:
    """The metrics of all scorers on some of the cases."""

    name: str
    cases: int
    """Number of users in it."""
    metrics: dict[str, dict[str, Estimate]]
    """By scorer, then by metric label in lower case, seen items excluded."""


@dataclass(frozen=True, kw_only=True)
class Segments:
    """Parts of the cases; the groups of either kind hold every case once."""

    popularity: tuple[Segment, ...]
    """By popularity of the item to find, see :func:`popularity_bands`."""
    history: tuple[Segment, ...]
    """By length of the history, the new users first, see :func:`history_groups`."""


def segments(
    bands: npt.NDArray[np.int64],
    cases: EvaluationCases,
    ranks: Mapping[str, npt.NDArray[np.int64]],
    *,
    seed: int | np.random.SeedSequence,
    resamples: int,
) -> Segments:
    """Average the metrics over popularity bands and over groups of histories.

    Args:
        bands: ``[n_items]`` popularity band of each item.
        cases: the cases.
        ranks: ``[n_cases]`` rank of the target, seen items excluded, by scorer.
        seed: seed of the bootstrap; all scorers share the draws.
        resamples: number of bootstrap samples.
    """
    groups = history_groups(cases.stops - cases.starts)
    return Segments(
        popularity=segment_metrics(bands[cases.targets], BANDS, ranks, seed=seed, resamples=resamples),
        history=segment_metrics(groups, history_names(), ranks, seed=seed, resamples=resamples),
    )


def popularity_bands(counts: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Sort items into head, torso, tail and items without any training event.

    Items are taken by falling number of training events, at equal numbers by item row. An item belongs to the head
    while the items before it hold less than 20% of all training events, to the torso while they hold less than 80%, and to the
    tail after that; so the first item is always in the head.

    Args:
        counts: ``[n_items]`` training events.

    Returns:
        ``[n_items]`` codes, see :data:`BANDS`.
    """
    order = np.argsort(-counts, kind="stable")
    before = np.cumsum(counts[order]) - counts[order]
    total = counts.sum()
    bands = np.empty(len(counts), np.int64)
    bands[order] = (before >= HEAD_SHARE * total).astype(np.int64) + (before >= (HEAD_SHARE + TORSO_SHARE) * total)
    bands[counts == 0] = COLD_BAND
    return bands


def history_groups(lengths: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return the group of each history, see :func:`history_names`; the first one holds the new users."""
    return np.searchsorted(HISTORY_BOUNDS, lengths, side="left").astype(np.int64)


def history_names() -> list[str]:
    """Names of the groups of :func:`history_groups`, by their code."""
    firsts = (0, *(bound + 1 for bound in HISTORY_BOUNDS))
    names = [f"{first} to {last}" for first, last in zip(firsts, HISTORY_BOUNDS, strict=False)]
    return [f"new users: at most {HISTORY_BOUNDS[0]}", *names[1:], f"more than {HISTORY_BOUNDS[-1]}"]


def segment_metrics(
    groups: npt.NDArray[np.int64],
    names: Sequence[str],
    ranks: Mapping[str, npt.NDArray[np.int64]],
    *,
    seed: int | np.random.SeedSequence,
    resamples: int,
) -> tuple[Segment, ...]:
    """Average the metrics of every scorer over the cases of each group; groups without any case are left out.

    Args:
        groups: ``[n_cases]`` code of each case.
        names: name of each code.
        ranks: ``[n_cases]`` rank of the target, by scorer.
        seed: seed of the bootstrap; all scorers share the draws.
        resamples: number of bootstrap samples.
    """
    found = []
    for code, name in enumerate(names):
        chosen = groups == code
        if not chosen.any():
            continue
        values = np.stack([metric(r[chosen]) for r in ranks.values() for metric in SEGMENT_METRICS], axis=1)
        means = bootstrap_means(values, resamples=resamples, seed=seed)
        found_estimates = iter(estimates(values, means))
        found.append(
            Segment(
                name=name,
                cases=int(chosen.sum()),
                metrics={
                    scorer: {metric.label.lower(): next(found_estimates) for metric in SEGMENT_METRICS}
                    for scorer in ranks
                },
            )
        )
    return tuple(found)
