"""The result of an evaluation."""

from dataclasses import asdict, dataclass
from typing import Any

from rf_training.evaluation.approximation import Approximation
from rf_training.evaluation.bootstrap import CONFIDENCE
from rf_training.evaluation.reach import CatalogReach
from rf_training.evaluation.result import ScorerResult, Seen, find_result
from rf_training.evaluation.segments import Segments
from rf_training.evaluation.target_kinds import KindOfTarget
from rf_training.evaluation.warm_cold import WarmCold


@dataclass(frozen=True, kw_only=True)
class EvaluationReport:
    """All scorers of one evaluation, each with seen items kept and excluded."""

    split: str
    """``validation`` or ``test``."""
    cases: int
    """Number of users ranked, with one target each."""
    cold_targets: int
    """Cases with a target without training events."""
    repeated_targets: int
    """Cases with a target that is also in the user's history."""
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
    """On all cases, by scorer in the order given, seen items kept first."""
    target_kinds: tuple[KindOfTarget, ...]
    """Targets by their weights in training, those that are new to their users or seen before, and by the type of their events;
    empty where all weigh the same, are new and of one type."""
    served: ScorerResult | None
    """The model as served: with the server's index and length of history, without items of the seen set, the target included. Its
    differences are those from the exact ranking, seen items excluded. None if it was not asked for."""
    warm_cold: WarmCold | None
    """Targets with and without training events apart; None where every target has some."""
    approximations: tuple[Approximation, ...]
    """Shares of the exact rankings that search indexes keep; empty without an approximate scorer."""
    segments: Segments
    """By popularity of the target and by length of the history."""
    reach: CatalogReach
    """Share of the catalog that is recommended, and its popularity."""

    def result(self, scorer: str, seen: Seen) -> ScorerResult:
        """Return the result of one scorer on all cases under one treatment of seen items.

        Raises:
            KeyError: If the report has no such scorer.
        """
        found = find_result(self.results, scorer, seen)
        if found is None:
            names = sorted({each.scorer for each in self.results})
            raise KeyError(f"no scorer {scorer!r} in this report, only {names}")
        return found

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain values for JSON; equal inputs and seeds give equal documents."""
        return asdict(self)
