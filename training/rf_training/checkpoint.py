"""Checkpoints: the whole state of a run in one file, replaced atomically."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from rf_platform.errors import CorruptError


@dataclass
class Position:
    """How far a run has come."""

    epoch: int = 0
    """Epoch that is being trained, from 0."""
    step: int = 0
    """Steps of it that are done."""
    total_steps: int = 0
    """Steps done since the start of the run."""
    best: float = -1.0
    """Best validation score so far."""
    best_epoch: int = -1
    """Epoch of it."""


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write ``state`` to ``path``; a crash or a full disk meanwhile leaves the file that was there."""
    temporary = path.with_suffix(".tmp")
    try:
        with temporary.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint.

    Raises:
        CorruptError: the file cannot be read.
    """
    try:
        state: dict[str, Any] = torch.load(path, weights_only=True)
    except Exception as error:  # torch and pickle raise many kinds
        raise CorruptError(
            f"checkpoint {path} cannot be read ({type(error).__name__}); start a new run with `rf train`"
        ) from error
    return state
