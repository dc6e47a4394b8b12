"""Tuning: a search for better settings of a recipe, by validation alone."""

from rf_training.tuning.space import Space, default_space, read_space
from rf_training.tuning.study import Tuning, TuningPlan, tuning_directory

__all__ = ["Space", "Tuning", "TuningPlan", "default_space", "read_space", "tuning_directory"]
