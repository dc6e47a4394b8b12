"""Ranking metrics, each computed for every case from the rank of its target."""

from rf_training.evaluation.metrics.metric import Metric
from rf_training.evaluation.metrics.mrr import ReciprocalRank
from rf_training.evaluation.metrics.ndcg import NDCG
from rf_training.evaluation.metrics.recall import Recall

REPORT_METRICS: tuple[Metric, ...] = (
    Recall(5),
    Recall(10),
    Recall(20),
    NDCG(5),
    NDCG(10),
    NDCG(20),
    ReciprocalRank(),
)
"""The columns of an evaluation report, in order."""

__all__ = ["NDCG", "REPORT_METRICS", "Metric", "Recall", "ReciprocalRank"]
