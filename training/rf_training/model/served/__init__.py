"""The user side of a model as it is served: training's mathematics with fewer operations."""

from rf_training.model.served.tower import Encoded, Goals, ServedTower

__all__ = ["Encoded", "Goals", "ServedTower"]
