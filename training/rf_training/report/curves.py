"""Training curves of a run: TensorBoard scalars and the validation history."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from rf_platform.failures import reading


@dataclass(frozen=True, eq=False)
class Curve:
    """One scalar against optimiser steps."""

    steps: npt.NDArray[np.int64]
    """``[n]``, rising."""
    values: npt.NDArray[np.float64]
    """``[n]``."""


@dataclass(frozen=True, eq=False)
class BinnedCurve:
    """A curve with at most so many points as can be told apart: mean and range of neighbouring points."""

    steps: npt.NDArray[np.float64]
    mean: npt.NDArray[np.float64]
    low: npt.NDArray[np.float64]
    high: npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Recorded:
    """All scalars of a run."""

    curves: dict[str, Curve]
    """By TensorBoard tag, such as ``train/loss``; a tag with no value is left out."""
    seconds: float
    """From the opening of the first event file to the last value, pauses before a resume included."""


def read_curves(directory: Path) -> Recorded | None:
    """Read the event files of a run; None where there is no scalar in them.

    Where a killed run went on from a checkpoint, the values it had logged after that checkpoint are superseded: of
    several values for one step the last one counts.
    """
    if not directory.is_dir():
        return None
    events = EventAccumulator(str(directory), size_guidance={"scalars": 0})
    with reading(directory, "delete what is damaged in it"):
        events.Reload()
    curves: dict[str, Curve] = {}
    last = 0.0
    for tag in events.Tags()["scalars"]:
        by_step = {event.step: event.value for event in events.Scalars(tag)}
        steps = sorted(by_step)
        curves[tag] = Curve(np.array(steps, np.int64), np.array([by_step[step] for step in steps], np.float64))
        last = max(last, *(event.wall_time for event in events.Scalars(tag)))
    return Recorded(curves, last - events.FirstEventTimestamp()) if curves else None


def binned(curve: Curve, most: int = 240) -> BinnedCurve:
    """Join neighbouring points so that at most ``most`` are left; a short curve keeps all of its points."""
    count = len(curve.steps)
    starts = np.unique(np.linspace(0, count, min(count, most), endpoint=False).astype(np.int64))
    sizes = np.diff([*starts, count])
    return BinnedCurve(
        np.add.reduceat(curve.steps, starts) / sizes,
        np.add.reduceat(curve.values, starts) / sizes,
        np.minimum.reduceat(curve.values, starts),
        np.maximum.reduceat(curve.values, starts),
    )
