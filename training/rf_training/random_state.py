"""The random numbers of a process: of what dropout and noising draw."""

from typing import Any

import numpy as np
import torch

from rf_training.distributed.process_group import World


def seed_rank(seed: int, rank: int, steps: int = 0) -> None:
    """Give every process random numbers of its own; rank 0 of a run that starts goes on with those that made the model.

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
    """Go on from a state."""
    torch.set_rng_state(state["cpu"].contiguous())
    if device.type == "cuda" and state["cuda"] is not None:
        torch.cuda.set_rng_state(state["cuda"], device)


def _gathered(world: World, state: torch.Tensor) -> list[torch.Tensor]:
    return [
        torch.frombuffer(bytearray(part), dtype=torch.uint8) for part in world.gather_bytes(state.numpy().tobytes())
    ]
