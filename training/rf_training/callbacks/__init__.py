"""Callbacks of a training: what is told of its steps and epochs, and what may end it early."""

from rf_training.callbacks.callback import Callback, EpochReport, RunReport, StepReport, StopTraining
from rf_training.callbacks.mlflow_tracker import MlflowTracker
from rf_training.callbacks.optuna_pruning import OptunaPruning
from rf_training.callbacks.table import CALLBACKS, make_callbacks
from rf_training.callbacks.tensorboard_curves import TensorBoardCurves
from rf_training.callbacks.wandb_tracker import WandbTracker

__all__ = [
    "CALLBACKS",
    "Callback",
    "EpochReport",
    "MlflowTracker",
    "OptunaPruning",
    "RunReport",
    "StepReport",
    "StopTraining",
    "TensorBoardCurves",
    "WandbTracker",
    "make_callbacks",
]
