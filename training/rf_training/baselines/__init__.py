"""Baselines that every model is compared with; fitted on the training split alone."""

from rf_training.baselines.als import ALS
from rf_training.baselines.comparison import BESIDE_EVERY_RUN, FittedBaselines, compare
from rf_training.baselines.content_knn import ContentKNN
from rf_training.baselines.gru4rec import GRU4Rec
from rf_training.baselines.item_knn import ItemKNN
from rf_training.baselines.popularity import Popularity
from rf_training.baselines.recency import Recency
from rf_training.baselines.rectools_models import BERT4Rec, SASRec
from rf_training.baselines.sanity_check import Beaten, baselines_ahead_of
from rf_training.baselines.table import BASELINES, SIMPLE, baseline_names
from rf_training.baselines.training_data import TrainingData

__all__ = [
    "ALS",
    "BASELINES",
    "BESIDE_EVERY_RUN",
    "SIMPLE",
    "BERT4Rec",
    "Beaten",
    "ContentKNN",
    "FittedBaselines",
    "GRU4Rec",
    "ItemKNN",
    "Popularity",
    "Recency",
    "SASRec",
    "TrainingData",
    "baseline_names",
    "baselines_ahead_of",
    "compare",
]
