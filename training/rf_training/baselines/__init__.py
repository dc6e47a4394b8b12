"""Baselines that every model is compared with; fitted on the training split alone."""

from rf_training.baselines.comparison import compare_with_baselines, fit_baselines
from rf_training.baselines.item_knn import ItemKNN
from rf_training.baselines.popularity import Popularity

__all__ = ["ItemKNN", "Popularity", "compare_with_baselines", "fit_baselines"]
