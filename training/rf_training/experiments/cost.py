"""What training a run costs: seconds of processor and of clock, summed over its sittings."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

FILE = "cost.jsonl"


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Training of a run, its validation after every epoch included."""

    cpu_seconds: float
    """Processor time of the process and of those it started, per epoch."""
    wall_seconds: float
    """Time on the clock, per epoch."""


@contextmanager
def measured(directory: Path) -> Iterator[None]:
    """Measure a sitting of training in ``directory`` and note it there, however it ends.

    Epochs are counted by the lines of ``history.jsonl``. A process that is killed notes nothing, and neither its time nor its
    epochs count. A sitting that is interrupted inside an epoch counts that epoch's time and not the epoch.
    """
    epochs, cpu, wall = _epochs(directory), _cpu(), perf_counter()
    try:
        yield
    finally:
        if directory.is_dir():
            sitting = {
                "epochs": _epochs(directory) - epochs,
                "cpu_seconds": round(_cpu() - cpu, 3),
                "wall_seconds": round(perf_counter() - wall, 3),
            }
            with (directory / FILE).open("a") as file:
                file.write(json.dumps(sitting) + "\n")


def read_cost(directory: Path) -> Cost | None:
    """Return what an epoch of a run cost; None if no whole epoch was measured."""
    path = directory / FILE
    if not path.exists():
        return None
    sittings = [json.loads(line) for line in path.read_text().splitlines()]
    epochs = sum(each["epochs"] for each in sittings)
    if epochs < 1:
        return None
    return Cost(
        cpu_seconds=sum(each["cpu_seconds"] for each in sittings) / epochs,
        wall_seconds=sum(each["wall_seconds"] for each in sittings) / epochs,
    )


def _epochs(directory: Path) -> int:
    history = directory / "history.jsonl"
    return len(history.read_text().splitlines()) if history.exists() else 0


def _cpu() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system
