"""Trade-off of goals: what answers for one goal give another, traced by the weights between them."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from rf_platform.dataset import Dataset
from rf_training.evaluation import Split
from rf_training.evaluation.bootstrap import Estimate, bootstrap_means, estimates
from rf_training.evaluation.cases import EvaluationCases
from rf_training.evaluation.metrics import NDCG, Metric, Recall
from rf_training.evaluation.ranking import rank_targets
from rf_training.evaluation.rendering import Section
from rf_training.model_scorer import ModelScorer
from rf_training.targets.event_types import EventTypes

WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Weights of one goal beside another."""
MOST_CASES = 10_000
"""Most targets that are ranked for each point; of more, so many are drawn by the seed."""
RESAMPLES = 500
_METRICS: tuple[Metric, ...] = (NDCG(20), Recall(20))


@dataclass(frozen=True, kw_only=True)
class GoalPoint:
    """Answers for some weights over goals."""

    goals: dict[str, float]
    """The weights; empty where no goal is asked for."""
    metrics: dict[str, dict[str, Estimate]]
    """NDCG@20 and Recall@20 by type of the target, seen items excluded."""


@dataclass(frozen=True, kw_only=True)
class GoalCurve:
    """Points between the commonest goal and each other one."""

    split: str
    targets: dict[str, int]
    """Ranked targets by type, the commonest first."""
    points: tuple[GoalPoint, ...]
    """Without a goal first, then from the commonest goal alone to each other one alone."""

    def section(self) -> Section:
        """Return the table: a row for each point, a column for each type of target."""
        return Section(
            title=f"Goals, {self.split} targets: NDCG@20 by type of the target, seen items excluded",
            columns=tuple(f"{name} ({count:,})" for name, count in self.targets.items()),
            rows=tuple(
                (
                    ", ".join(f"{name} {weight:g}" for name, weight in point.goals.items()) or "no goal asked",
                    tuple(point.metrics[name]["ndcg@20"] for name in self.targets),
                )
                for point in self.points
            ),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the curve as plain values for JSON."""
        return asdict(self)


def goal_curve(model: ModelScorer, dataset: Dataset, split: Split, seed: int) -> GoalCurve | None:
    """Rank the targets of a split for several weights over goals; None for a model without goals, or targets of one goal only.

    Args:
        model: scorer of the model.
        dataset: has the targets.
        split: validation or test.
        seed: of ties, of the choice of targets and of the bootstrap.
    """
    types = EventTypes.of(dataset)
    if not model.goals or types is None:
        return None
    cases = EvaluationCases.from_sequences(
        dataset.sequences, n_items=dataset.n_items, split=split, trained=dataset.trained_items
    ).sampled(MOST_CASES, seed)
    codes = types.codes(cases.stops)
    counts = {name: int((codes == code).sum()) for code, name in enumerate(types.names) if name in model.goals}
    targets = {name: count for name, count in sorted(counts.items(), key=lambda pair: -pair[1]) if count}
    if len(targets) < 2:
        return None
    first, *others = targets
    mixtures: list[dict[str, float]] = [{}, {first: 1.0}]
    mixtures += [
        {first: 1 - weight, other: weight} if weight < 1 else {other: 1.0} for other in others for weight in WEIGHTS[1:]
    ]
    values = [_values(model if not each else model.asking(each, "goals"), cases, seed) for each in mixtures]
    rows = {name: codes == types.names.index(name) for name in targets}
    found = [{name: _estimates(part[chosen], seed) for name, chosen in rows.items()} for part in values]
    points = tuple(GoalPoint(goals=goals, metrics=metrics) for goals, metrics in zip(mixtures, found, strict=True))
    return GoalCurve(split=split.label, targets=targets, points=points)


def _values(model: ModelScorer, cases: EvaluationCases, seed: int) -> npt.NDArray[np.float64]:
    ranks = rank_targets(model, cases, seed=seed).excluded
    return np.stack([metric(ranks) for metric in _METRICS], axis=1)


def _estimates(values_NM: npt.NDArray[np.float64], seed: int) -> dict[str, Estimate]:
    found = estimates(values_NM, bootstrap_means(values_NM, resamples=RESAMPLES, seed=seed))
    return {metric.label.lower(): estimate for metric, estimate in zip(_METRICS, found, strict=True)}
