"""Re-rankers, the models of the second stage: kinds, training data, training and comparison."""

from rf_training.rerank.config import RerankConfig
from rf_training.rerank.kinds import RERANKERS, load_ranker, make_ranker, save_ranker
from rf_training.rerank.ranker import Histories, Ranker

__all__ = ["RERANKERS", "Histories", "Ranker", "RerankConfig", "load_ranker", "make_ranker", "save_ranker"]
