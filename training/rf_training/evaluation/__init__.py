"""Full-catalog leave-one-out evaluation: cases, ranks with fair ties, metrics, intervals and the report."""

from rf_training.evaluation.bootstrap import Estimate
from rf_training.evaluation.cases import LeaveOneOutCases
from rf_training.evaluation.evaluator import evaluate
from rf_training.evaluation.jagged import Jagged
from rf_training.evaluation.ranking import TargetRanks, rank_targets
from rf_training.evaluation.rendering import report_markdown, report_tables
from rf_training.evaluation.report import EvaluationReport, ScorerResult, Seen
from rf_training.evaluation.scorer import Scorer
from rf_training.evaluation.sequences import EventSequences, Sequences, Split, training_items

__all__ = [
    "Estimate",
    "EvaluationReport",
    "EventSequences",
    "Jagged",
    "LeaveOneOutCases",
    "Scorer",
    "ScorerResult",
    "Seen",
    "Sequences",
    "Split",
    "TargetRanks",
    "evaluate",
    "rank_targets",
    "report_markdown",
    "report_tables",
    "training_items",
]
