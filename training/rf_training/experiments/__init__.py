"""Ablations (R18): vary one thing at a time around a recipe, train each cell once, and compare with the base."""

from rf_training.experiments.ablation import Ablation, ablation_directory
from rf_training.experiments.grid import Group, no_seed, read_grid, select
from rf_training.experiments.grids import GRIDS, get_grid
from rf_training.experiments.plan import Plan
from rf_training.experiments.results import AblationResult
from rf_training.experiments.runs import CellRuns
from rf_training.experiments.tables import terminal

__all__ = [
    "GRIDS",
    "Ablation",
    "AblationResult",
    "CellRuns",
    "Group",
    "Plan",
    "ablation_directory",
    "get_grid",
    "no_seed",
    "read_grid",
    "select",
    "terminal",
]
