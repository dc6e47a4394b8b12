"""Share of an exact ranking that a search index keeps."""

from collections.abc import Mapping
from dataclasses import dataclass

from rf_training.evaluation.bootstrap import Estimate
from rf_training.evaluation.result import Seen
from rf_training.evaluation.sampled import Sampled

KEPT_METRIC = "recall@20"


@dataclass(frozen=True, kw_only=True)
class Approximation:
    """An approximate ranking beside the exact one."""

    scorer: str
    """Name of the scorer that ranks what an index finds."""
    exact: str
    """Name of the scorer that ranks the whole catalog."""
    seen: Seen
    metric: str
    """Metric that is compared, such as ``recall@20``."""
    exact_value: float
    """Mean of the exact ranking."""
    value: float
    """Mean of the approximate one."""
    kept: float | None
    """``value / exact_value``; None where the exact ranking has no hit."""
    difference: Estimate
    """Approximate minus exact, paired by user."""


def approximations(sampled: Sampled, exact_of: Mapping[str, str]) -> tuple[Approximation, ...]:
    """Compare each approximate scorer with its exact one, under both treatments of seen items.

    Args:
        sampled: the metrics of both on all cases.
        exact_of: name of the exact scorer by name of the approximate one.
    """
    found = []
    for scorer, seen in sampled.columns:
        if scorer not in exact_of:
            continue
        exact = exact_of[scorer]
        value, exact_value = (sampled.mean((name, seen), KEPT_METRIC)[0] for name in (scorer, exact))
        found.append(
            Approximation(
                scorer=scorer,
                exact=exact,
                seen=seen,
                metric=KEPT_METRIC,
                exact_value=exact_value,
                value=value,
                kept=value / exact_value if exact_value else None,
                difference=sampled.differences((scorer, seen), (exact, seen))[KEPT_METRIC],
            )
        )
    return tuple(found)
