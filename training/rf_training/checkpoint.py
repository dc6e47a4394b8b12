"""Checkpoints: the whole state of a run in one directory, complete or not there at all.

``checkpoints/step-00000120/`` holds what every process has alike, in ``weights.safetensors`` and ``state.pt`` (position,
optimiser, running average, and the random numbers of each), ``tables/`` (sharded tables with their optimiser, written by all
processes in parallel) and ``complete.json`` (all files with their sizes). It is written under another name, and renamed when
everything is on disk.
"""

import json
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rf_platform.errors import RunError
from rf_platform.failures import read_json, reading
from rf_platform.files import sync, sync_tree
from rf_platform.interrupts import held
from rf_platform.staging import exchange
from rf_training.distributed.process_group import World
from rf_training.distributed.tables import read_parts, write_parts
from rf_training.tensors import WEIGHTS, load_tensors, load_weights_file, save_tensors, save_weights_file

ROOT = "checkpoints"
COMPLETE = "complete.json"
_NAME = re.compile(r"step-(\d+)$")
_TEMPORARY = ".unfinished-"
_MODEL = "model"


@dataclass
class Position:
    """Position of a run in its training."""

    epoch: int = 0
    """Epoch that is being trained, from 0."""
    step: int = 0
    """Steps of it that are done; a step is one of the whole batch, however many processes share it."""
    total_steps: int = 0
    """Steps done since the start of the run."""
    best: float = -1.0
    """Best validation score so far."""
    best_epoch: int = -1
    """Epoch of it; -1 for the weights the run started from."""


def save_checkpoint(
    directory: Path, step: int, state: dict[str, Any], tables: dict[str, Any], world: World | None = None
) -> None:
    """Write a checkpoint and then delete the one before; until it is complete, that one is the last. All processes call it.

    Args:
        directory: of the run.
        step: number of steps done.
        state: what every process has alike, ``model`` being its weights; rank 0 writes it.
        tables: this process's parts of sharded tables and of their optimiser's state.
        world: the processes that call it; default: this one alone.

    Raises:
        RunError: it could not be written, for example because the disk is full; the checkpoint before is as it was.
    """
    world = world or World()
    root = directory / ROOT
    temporary, final = root / f"{_TEMPORARY}{step:08}", root / f"step-{step:08}"
    try:
        world.on_main(lambda: _write_state(temporary, state))
        if tables:
            _write_tables(temporary / "tables", tables, world)
        world.on_main(lambda: _commit(temporary, final))
    except BaseException as error:
        if world.main:
            with held():
                shutil.rmtree(temporary, ignore_errors=True)
        cause = _disk_error(error)
        if cause is None:
            raise
        last = last_checkpoint(directory)
        kept = f"the one before, {last.name}, is as it was" if last else "there is none before it"
        raise RunError(
            f"the checkpoint of step {step} could not be written to {root} ({cause}), and {kept}; make room on that disk, then "
            f"`rf train --resume --name {directory.name}` goes on from it"
        ) from error


def last_checkpoint(directory: Path) -> Path | None:
    """Return a run's last complete checkpoint, or None."""
    found = [
        path for path in (directory / ROOT).glob("step-*") if _NAME.match(path.name) and (path / COMPLETE).exists()
    ]
    return max(found, key=lambda path: int(path.name.removeprefix("step-")), default=None)


def load_state(checkpoint: Path) -> dict[str, Any]:
    """Read what every process has alike.

    Raises:
        CorruptError: a file of the checkpoint is damaged.
    """
    remedy = "start a new run with `rf train`"
    with reading(f"checkpoint {checkpoint}", remedy):
        sizes = read_json(checkpoint / COMPLETE, remedy)["files"]
        for name, size in sizes.items():
            if (checkpoint / name).stat().st_size != size:
                raise ValueError(f"{name} does not have its {size} bytes")
        state = load_tensors(checkpoint / "state.pt", remedy)
        if not isinstance(state, dict):
            raise ValueError("state.pt has no state of a run")
        if WEIGHTS in sizes:  # not in checkpoints of earlier versions
            state[_MODEL] = load_weights_file(checkpoint / WEIGHTS, remedy)
        return state


def load_tables(checkpoint: Path, tables: dict[str, Any]) -> None:
    """Read this process's parts of sharded tables into ``tables``, whatever number of processes wrote them.

    Raises:
        CorruptError: the checkpoint does not have these tables.
    """
    if tables:
        read_parts(checkpoint / "tables", tables)


def _write_state(temporary: Path, state: dict[str, Any]) -> None:
    for left_over in temporary.parent.glob(f"{_TEMPORARY}*"):
        shutil.rmtree(left_over)
    temporary.mkdir(parents=True)
    if _MODEL in state:
        save_weights_file(temporary / WEIGHTS, state[_MODEL])
    save_tensors(temporary / "state.pt", {name: value for name, value in state.items() if name != _MODEL})


def _write_tables(directory: Path, tables: dict[str, Any], world: World) -> None:
    """Write the parts of all processes, which hear of it if one of them has no room."""
    failed: BaseException | None = None
    try:
        write_parts(directory, tables, world.rank)
    except Exception as error:
        failed = _disk_error(error)
        if failed is None:
            raise
    reasons = world.gather_plain("" if failed is None else str(failed))
    if any(reasons):
        raise OSError(next(filter(None, reasons)))


def _commit(temporary: Path, final: Path) -> None:
    files = {str(p.relative_to(temporary)): p.stat().st_size for p in sorted(temporary.rglob("*")) if p.is_file()}
    (temporary / COMPLETE).write_text(json.dumps({"files": files}, indent=2) + "\n")
    sync_tree(temporary)
    with held():  # the old one is deleted when the new one has its name
        if final.exists():  # of the same step of the same run
            exchange(temporary, final, final.with_name(f"{_TEMPORARY}old-{final.name}"))
        else:
            os.replace(temporary, final)
        sync(final.parent)
        for older in final.parent.glob("step-*"):
            if older != final:
                shutil.rmtree(older)


def _disk_error(error: BaseException) -> BaseException | None:
    """Return the error of the disk that is behind another one; None if there is none.

    Torch's archives have errors of their own for it.
    """
    found: BaseException | None = error
    while found is not None and not isinstance(found, OSError):
        found = found.__cause__ or found.__context__
    if found is None and any(sign in str(error) for sign in ("file write failed", "unexpected pos")):
        return error
    return found


def seed_rank(seed: int, rank: int, steps: int = 0) -> None:
    """Seed every process differently; rank 0 of a run that starts goes on with those that made the model.

    Args:
        seed: of the run.
        rank: of the process.
        steps: done so far, in a run that goes on with more processes than before.
    """
    if rank or steps:
        torch.manual_seed(int(np.random.SeedSequence([seed, rank, steps]).generate_state(1, np.uint64)[0] >> 1))


def random_states(world: World, device: torch.device) -> list[dict[str, Any]]:
    """Return the states of the generators of every process: of its CPU and, if that is where it computes, its GPU."""
    cpu = _gathered(world, torch.get_rng_state())
    cuda = _gathered(world, torch.cuda.get_rng_state(device)) if device.type == "cuda" else [None] * world.size
    return [{"cpu": of_cpu, "cuda": of_cuda} for of_cpu, of_cuda in zip(cpu, cuda, strict=True)]


def set_random_state(state: dict[str, Any], device: torch.device) -> None:
    """Restore a random state."""
    torch.set_rng_state(state["cpu"].contiguous())
    if device.type == "cuda" and state["cuda"] is not None:
        torch.cuda.set_rng_state(state["cuda"], device)


def _gathered(world: World, state: torch.Tensor) -> list[torch.Tensor]:
    return [
        torch.frombuffer(bytearray(part), dtype=torch.uint8) for part in world.gather_bytes(state.numpy().tobytes())
    ]
