"""Ranking metrics, each computed for every case from the rank of its target."""

from rf_training.evaluation.metrics.auc import AUC
from rf_training.evaluation.metrics.metric import Metric
from rf_training.evaluation.metrics.mrr import ReciprocalRank
from rf_training.evaluation.metrics.ndcg import NDCG
from rf_training.evaluation.metrics.recall import Recall

CUTOFFS = (5, 10, 20, 50)
"""Lengths of the lists that are reported."""
REPORT_METRICS: tuple[Metric, ...] = (
    *(Recall(k) for k in CUTOFFS),
    *(NDCG(k) for k in CUTOFFS),
    *(ReciprocalRank(k) for k in CUTOFFS),
    ReciprocalRank(),
)
"""The metrics of an evaluation report that follow from the rank alone, in order; :class:`AUC` comes after them."""

__all__ = ["AUC", "CUTOFFS", "NDCG", "REPORT_METRICS", "Metric", "Recall", "ReciprocalRank"]
