"""Cells of an experiment: one training each, done once, shared by all processes that run experiments in a workspace."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from rf_platform.cli.console import Tracker, track
from rf_platform.errors import InterruptedRunError
from rf_platform.locks import claimed

RecipeT = TypeVar("RecipeT")


@dataclass(frozen=True, kw_only=True)
class Cell(Generic[RecipeT]):
    """One training of an experiment."""

    name: str
    """Name of its run or of the file of its result: the same for the same settings on the same data, another one for others."""
    label: str
    """Its name in progress displays."""
    recipe: RecipeT


def digest(settings: Mapping[str, Any], length: int) -> str:
    """Return the identity of settings: the first hexadecimal digits of the SHA-256 of their JSON, in which keys are sorted."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:length]


def run_cells(
    title: str,
    cells: Sequence[Cell[RecipeT]],
    *,
    train: Callable[[Cell[RecipeT]], None],
    lock: Callable[[Cell[RecipeT]], Path],
    after_each: Callable[[], None],
    interrupted: Callable[[int], str],
) -> None:
    """Train cells in order; those that another process is training are left to it, and waited for at the end.

    Args:
        title: of the progress display.
        cells: that have no result yet.
        train: trains a cell and keeps the result; a cell that has one by now, made by another process, it leaves alone.
        lock: file that a process holds locked while it trains a cell.
        after_each: called after every cell, for an early table.
        interrupted: message for an interruption, given the number of cells that are left.

    Raises:
        InterruptedRunError: interrupted.
    """
    waiting, trained = list(cells), 0
    try:
        with track(title, len(cells)) as progress:
            while waiting:
                elsewhere = []
                for cell in waiting:
                    with claimed(lock(cell)) as mine:
                        if not mine:
                            elsewhere.append(cell)
                            continue
                        train(cell)
                    trained += 1
                    progress.advance(note=cell.label)
                    after_each()
                if len(elsewhere) == len(waiting):
                    _wait(lock(elsewhere[0]), elsewhere[0].label, progress)
                waiting = elsewhere
    except KeyboardInterrupt:
        raise InterruptedRunError(interrupted(len(cells) - trained)) from None


def _wait(lock: Path, label: str, progress: Tracker) -> None:
    progress.advance(0, note=f"waiting for another process that trains {label}")
    with claimed(lock, wait=True):
        pass
