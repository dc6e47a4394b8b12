"""The objective of training: negatives that are drawn, and the loss of queries against their candidates."""

from rf_training.objective.contrast import LOSSES, Contrast, Loss
from rf_training.objective.samplers import SAMPLERS, Sampler

__all__ = ["LOSSES", "SAMPLERS", "Contrast", "Loss", "Sampler"]
