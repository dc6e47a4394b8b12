"""The metrics of one scorer."""

from dataclasses import dataclass
from typing import Literal

from rf_training.evaluation.bootstrap import Estimate

Seen = Literal["kept", "excluded"]
"""Whether items of the user's history take part in the ranking."""


@dataclass(frozen=True, kw_only=True)
class ScorerResult:
    """Metrics of one scorer under one treatment of seen items."""

    scorer: str
    """Name of the scorer."""
    seen: Seen
    """Whether seen items took part in the ranking."""
    metrics: dict[str, Estimate]
    """Mean over the cases by metric label in lower case, such as ``recall@20``."""
    differences: dict[str, Estimate] | None
    """This scorer minus the reference, paired by user; None for the reference itself or without one."""


def find_result(results: tuple[ScorerResult, ...], scorer: str, seen: str) -> ScorerResult | None:
    """Return the result of one scorer under one treatment of seen items; None if there is none."""
    return next((each for each in results if (each.scorer, each.seen) == (scorer, seen)), None)
