"""Recipes: named functions that return a complete configuration; variants start from another recipe and change it."""

from rf_training.recipes.overrides import override
from rf_training.recipes.recipe_file import read_recipe, write_recipe
from rf_training.recipes.table import RECIPES, TYPICAL, DatasetStatistics, get_recipe

__all__ = ["RECIPES", "TYPICAL", "DatasetStatistics", "get_recipe", "override", "read_recipe", "write_recipe"]
