"""Targets by what they are to the user: new or seen before, and by the type of their event."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rf_training.evaluation.cases import EvaluationCases
from rf_training.evaluation.result import ScorerResult
from rf_training.evaluation.sampled import Key, Sampled
from rf_training.targets.event_types import NO_TYPE, EventTypes
from rf_training.targets.weights import TargetWeights

NEW, SEEN, WEIGHTED = "new to the user", "seen before", "by weight"
MOST_TYPES = 12
"""Most types of a report, those with the most targets."""


@dataclass(frozen=True, kw_only=True)
class KindOfTarget:
    """All scorers on the targets of one kind."""

    name: str
    """:data:`WEIGHTED`, :data:`NEW`, :data:`SEEN`, a type of event, or a type and :data:`NEW`."""
    type: str | None
    """Type of their events; None for all types."""
    new: bool | None
    """Whether the user has not seen the item before, in the history or beside it; None for either."""
    cases: int
    """Number of targets."""
    results: tuple[ScorerResult, ...]
    """By scorer in the order of the report, seen items kept first."""


def target_kinds(
    cases: EvaluationCases,
    types: EventTypes | None,
    blocks: Mapping[Key, npt.NDArray[np.float64]],
    *,
    reference: str | None,
    resamples: int,
    seed: np.random.SeedSequence,
    weights: TargetWeights | None = None,
) -> tuple[KindOfTarget, ...]:
    """Average all metrics over the kinds of targets; empty where all targets are new and of one type.

    Args:
        cases: the cases.
        types: types of the dataset's events; None without any.
        blocks: ``[n_cases, n_metrics]`` of each scorer and treatment.
        reference: scorer that differences are taken against.
        resamples: number of bootstrap samples.
        seed: seed of the bootstrap.
        weights: of targets in training; None where all weigh the same.

    Returns:
        All targets by their weights, where those differ; new and seen-before targets; then each type by falling number of
        targets, as a whole and, where some of it were seen before, its new ones.
    """
    new, codes = ~cases.seen_before, np.zeros(len(cases), np.int64)
    names: tuple[str, ...] = (NO_TYPE,)
    if types is not None:
        codes, names = types.codes(cases.stops), types.names
    counts = np.bincount(codes, minlength=len(names))
    weighed = None if weights is None else weights(cases.stops).astype(np.float64)
    parts: list[tuple[str, str | None, bool | None, npt.NDArray[np.bool_]]] = []
    if weighed is not None and 0 < weighed.max() != weighed.min():
        parts.append((WEIGHTED, None, None, np.ones(len(cases), bool)))
    if not new.all() or counts.max() < len(cases):
        parts += [(NEW, None, True, new), (SEEN, None, False, ~new)]
    for code in np.argsort(-counts, kind="stable")[:MOST_TYPES].tolist() if counts.max() < len(cases) else []:
        own, name = codes == code, names[code]
        parts.append((name, name, None, own))
        if not new[own].all():
            parts.append((f"{name}, {NEW}", name, True, own & new))
    return tuple(
        KindOfTarget(
            name=name,
            type=of_type,
            new=is_new,
            cases=int(chosen.sum()),
            results=Sampled.draw(
                {key: values[chosen] for key, values in blocks.items()},
                resamples=resamples,
                seed=seed,
                weights=weighed if name == WEIGHTED else None,
            ).results(reference),
        )
        for name, of_type, is_new, chosen in parts
        if chosen.any()
    )
