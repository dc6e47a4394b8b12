"""The result of an evaluation."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

from rf_training.evaluation.bootstrap import CONFIDENCE, Estimate

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


@dataclass(frozen=True, kw_only=True)
class EvaluationReport:
    """All scorers of one evaluation, each with seen items kept and excluded."""

    split: str
    """``validation`` or ``test``."""
    cases: int
    """Number of users ranked, with one target each."""
    repeated_targets: int
    """Cases whose target is also in the user's history."""
    items: int
    """Number of items ranked for each user: the whole catalog."""
    seed: int
    """Seed of ties and resampling."""
    resamples: int
    """Number of bootstrap samples behind the intervals."""
    confidence: float = CONFIDENCE
    """Nominal coverage of the intervals."""
    reference: str | None
    """Scorer that differences are taken against."""
    results: tuple[ScorerResult, ...]
    """By scorer in the order given, seen items kept first."""

    def result(self, scorer: str, seen: Seen) -> ScorerResult:
        """Result of one scorer under one treatment of seen items.

        Raises:
            KeyError: If the report has no such scorer.
        """
        for result in self.results:
            if result.scorer == scorer and result.seen == seen:
                return result
        raise KeyError(f"no scorer {scorer!r} in this report, only {sorted({each.scorer for each in self.results})}")

    def to_dict(self) -> dict[str, Any]:
        """The report as plain values for JSON; equal inputs and seeds give equal documents."""
        return asdict(self)
