"""Interface of a callback, and what it is told."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from rf_platform.dataset import Dataset
from rf_training.config import Recipe


class StopTraining(Exception):  # noqa: N818  (ends a training as it should end)
    """Request of a callback to end the training: after this step or epoch; its weights are validated like any others.

    The run counts as complete. With several processes, one that is raised in a step counts from the end of the epoch.
    """


@dataclass(frozen=True, kw_only=True)
class RunReport:
    """A run that begins, or goes on."""

    name: str
    """Name of the run."""
    directory: Path
    """Directory of the run, for files of the callback."""
    recipe: Recipe
    """All settings."""
    dataset: Dataset
    """Source of what is learned."""
    steps: int
    """Optimiser steps of all epochs."""
    done: int
    """Steps that were taken in earlier sittings: reports of later ones that these have made are void."""


@dataclass(frozen=True, kw_only=True)
class StepReport:
    """A step that was just taken."""

    step: int
    """Number of the step in the run, from 1."""
    epoch: int
    """Number of its epoch, from 1."""
    read: Callable[[], Mapping[str, float]]
    """Source of :attr:`values`."""

    @cached_property
    def values(self) -> Mapping[str, float]:
        """``loss``, ``alignment``, ``uniformity``, ``gradient_norm`` and ``learning_rate``, of all processes together.

        The first look waits, on a GPU, until the step is computed: a callback that looks at every step slows training down.
        """
        return self.read()


@dataclass(frozen=True, kw_only=True)
class EpochReport:
    """An epoch that was just validated."""

    epoch: int
    """Number of the epoch, from 1."""
    step: int
    """Steps of the run so far."""
    metrics: Mapping[str, float]
    """Metrics of the validation targets, seen items excluded, by name, such as ``ndcg@20``."""
    best: bool
    """Whether these are the best weights so far, which are kept."""


class Callback:
    """Receiver of what happens in a training, on process 0 alone; every method may be left as it is.

    Methods are called in the thread that trains. What they raise ends the training as failed, but for :class:`StopTraining`.
    A run that goes on after an interruption tells of an epoch or step that was not in its last checkpoint once more.
    """

    def on_start(self, run: RunReport) -> None:
        """Begin: before the first step of each sitting."""

    def on_step(self, step: StepReport) -> None:
        """Take note of a step."""

    def on_epoch(self, epoch: EpochReport) -> None:
        """Take note of an epoch and its validation."""

    def on_end(self, result: Any, error: BaseException | None) -> None:
        """End, once for every :meth:`on_start`, also after an error.

        Args:
            result: the :class:`~rf_training.trainer.TrainResult`; None after an error.
            error: the error that ends the training; None without one.
        """
