"""Recipes: named functions that return a complete configuration; variants start from another recipe and change it."""

from rf_training.recipes.overrides import override
from rf_training.recipes.statistics import TYPICAL, DatasetStatistics
from rf_training.recipes.table import RECIPES, get_recipe

__all__ = ["RECIPES", "TYPICAL", "DatasetStatistics", "get_recipe", "override"]
