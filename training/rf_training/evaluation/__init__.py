"""Full-catalog evaluation: cases, ranks with fair ties, metrics, intervals, segments, reach and the report."""

from rf_training.evaluation.bootstrap import Estimate
from rf_training.evaluation.cases import EvaluationCases
from rf_training.evaluation.evaluator import Served, evaluate
from rf_training.evaluation.ranking import TargetRanks, rank_targets
from rf_training.evaluation.rendering import report_markdown, report_tables
from rf_training.evaluation.report import EvaluationReport
from rf_training.evaluation.result import ScorerResult, Seen
from rf_training.evaluation.scorer import Scorer
from rf_training.evaluation.sequences import EventSequences, Jagged, Sequences, Split, training_items

__all__ = [
    "Estimate",
    "EvaluationCases",
    "EvaluationReport",
    "EventSequences",
    "Jagged",
    "Scorer",
    "ScorerResult",
    "Seen",
    "Sequences",
    "Served",
    "Split",
    "TargetRanks",
    "evaluate",
    "rank_targets",
    "report_markdown",
    "report_tables",
    "training_items",
]
