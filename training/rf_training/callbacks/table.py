"""Table of callbacks by name, for `rf train --callback`."""

from collections.abc import Callable, Iterable

from rf_platform.parts import Parts
from rf_training.callbacks.callback import Callback
from rf_training.callbacks.mlflow_tracker import MlflowTracker
from rf_training.callbacks.wandb_tracker import WandbTracker

CALLBACKS: Parts[Callable[[], Callback]] = Parts(
    "callbacks",
    {"mlflow": MlflowTracker, "wandb": WandbTracker},
    lambda found: found if callable(found) else None,
)
"""Callbacks by name, each made without arguments: classes, or functions that return one."""


def make_callbacks(names: Iterable[str]) -> list[Callback]:
    """Return callbacks by name.

    Raises:
        ConfigError: there is none of a name, or its package is not installed.
    """
    return [CALLBACKS.find(name, "--callback")() for name in names]
