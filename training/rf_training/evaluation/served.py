"""Ranking as a server returns it: the seen set is left out whole, the target with it if the user has had it before."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rf_training.evaluation.cases import EvaluationCases
from rf_training.evaluation.metrics import CUTOFFS
from rf_training.evaluation.ranking import TargetRanks
from rf_training.evaluation.sampled import metric_values
from rf_training.evaluation.scorer import Scorer


@dataclass(frozen=True, kw_only=True)
class Served:
    """A scorer that finds what a server finds, and the one it is compared with."""

    scorer: Scorer
    """Reads as much of a history as the online store keeps, and scores what the served index finds."""
    exact: str
    """Name of the scorer that ranks the whole catalog with the whole history."""
    evaluated: bool = False
    """Whether the scorer is itself one of those evaluated, so that its ranks are known."""


def served_values(ranks: TargetRanks, cases: EvaluationCases) -> npt.NDArray[np.float64]:
    """All metrics of each case, ``[n_cases, n_metrics]``, where an answer never has an item of the seen set.

    The target of a case may be such an item: the evaluation keeps it in the ranking, a server does not, and no list has it.

    Args:
        ranks: of the scorer that finds what a server finds.
        cases: the cases, which know the seen sets.
    """
    nowhere = max(cases.n_items, *CUTOFFS) + 1
    rank = np.where(cases.seen_before, nowhere, ranks.excluded)
    return metric_values(rank, np.where(cases.seen_before, nowhere, ranks.n_excluded))
