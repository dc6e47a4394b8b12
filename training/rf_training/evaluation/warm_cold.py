"""Targets that training has met and targets that it has not, side by side."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from rf_training.evaluation.bootstrap import CONFIDENCE, Estimate
from rf_training.evaluation.cases import EvaluationCases
from rf_training.evaluation.ranking import TargetRanks
from rf_training.evaluation.result import ScorerResult, Seen
from rf_training.evaluation.sampled import Key, Sampled, metric_values

BALANCED_METRIC = "recall@20"
"""Metrics that the harmonic mean of warm and cold is taken of."""


@dataclass(frozen=True, kw_only=True)
class TargetGroup:
    """All scorers on the warm or on the cold targets."""

    targets: Literal["warm", "cold"]
    """Whether the items to find have training events."""
    candidates: Literal["all", "cold"]
    """Items that the target is ranked among: all, or those without training events (then seen items are excluded)."""
    cases: int
    """Number of targets."""
    results: tuple[ScorerResult, ...]
    """By scorer in the order of the report, seen items kept first."""


@dataclass(frozen=True, kw_only=True)
class Balance:
    """Joint quality of a scorer on warm and on cold targets."""

    scorer: str
    seen: Seen
    harmonic_mean: Estimate
    """Of :data:`BALANCED_METRIC` on the warm and on the cold targets, both ranked among all items."""


@dataclass(frozen=True, kw_only=True)
class WarmCold:
    """The two kinds of targets of a split that has cold ones."""

    cold_items: int
    """Items of the catalog without any training event."""
    groups: tuple[TargetGroup, ...]
    """Warm among all items, where there are warm targets; cold among all items; cold among cold items."""
    balance: tuple[Balance, ...]
    """By scorer and treatment; empty without warm targets."""

    def group(self, targets: str, candidates: str) -> TargetGroup | None:
        """One of the groups; None if there are no such targets."""
        return next((g for g in self.groups if (g.targets, g.candidates) == (targets, candidates)), None)


def warm_cold(
    cases: EvaluationCases,
    blocks: Mapping[Key, npt.NDArray[np.float64]],
    ranks: Mapping[str, TargetRanks],
    *,
    reference: str | None,
    resamples: int,
    seeds: tuple[np.random.SeedSequence, np.random.SeedSequence],
) -> WarmCold | None:
    """Compare warm and cold targets; None where there is no cold one.

    Args:
        cases: the cases.
        blocks: ``[n_cases, n_metrics]`` of each scorer and treatment.
        ranks: of the scorers that can rank the cold items on their own (a search index cannot).
        reference: scorer that differences are taken against.
        resamples: number of bootstrap samples.
        seeds: of the warm and of the cold users, which are drawn apart.
    """
    cold = cases.cold
    if not cold.any():
        return None
    groups = []
    balance: list[Balance] = []
    cold_sampled = _part(blocks, cold, resamples, seeds[1])
    if not cold.all():
        warm_sampled = _part(blocks, ~cold, resamples, seeds[0])
        groups.append(_group("warm", "all", warm_sampled, reference))
        balance = [
            Balance(scorer=key[0], seen=key[1], harmonic_mean=_harmonic_mean(warm_sampled, cold_sampled, key))
            for key in blocks
        ]
    groups.append(_group("cold", "all", cold_sampled, reference))
    among: dict[Key, npt.NDArray[np.float64]] = {
        (name, "excluded"): metric_values(each.among_cold[cold], each.n_among_cold[cold])
        for name, each in ranks.items()
    }
    among_reference = reference if reference in ranks else None
    groups.append(_group("cold", "cold", Sampled.draw(among, resamples=resamples, seed=seeds[1]), among_reference))
    return WarmCold(cold_items=int((~cases.trained).sum()), groups=tuple(groups), balance=tuple(balance))


def _part(
    blocks: Mapping[Key, npt.NDArray[np.float64]],
    chosen: npt.NDArray[np.bool_],
    resamples: int,
    seed: np.random.SeedSequence,
) -> Sampled:
    return Sampled.draw({key: values[chosen] for key, values in blocks.items()}, resamples=resamples, seed=seed)


def _group(
    targets: Literal["warm", "cold"], candidates: Literal["all", "cold"], sampled: Sampled, reference: str | None
) -> TargetGroup:
    return TargetGroup(
        targets=targets,
        candidates=candidates,
        cases=len(sampled.values_NM),
        results=sampled.results(reference),
    )


def _harmonic_mean(warm: Sampled, cold: Sampled, key: Key) -> Estimate:
    """``2 w c / (w + c)``, 0 where either is 0, with the interval of the two bootstraps side by side."""
    (warm_value, warm_R), (cold_value, cold_R) = warm.mean(key, BALANCED_METRIC), cold.mean(key, BALANCED_METRIC)
    w, c = np.append(warm_R, warm_value), np.append(cold_R, cold_value)
    means = 2 * w * c / np.maximum(w + c, np.finfo(np.float64).tiny)
    low, high = np.quantile(means[:-1], [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Estimate(float(means[-1]), float(low), float(high))
