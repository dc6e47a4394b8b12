"""The device of a run: training, validation, evaluation, re-rankers and the encoding of a bundle follow one rule."""

import os
from collections.abc import Mapping
from typing import Any, Literal

import torch

from rf_platform.errors import ConfigError

AskedDevice = Literal["auto", "cpu", "cuda"]
"""Device that a command names: ``auto`` is the run's own device where it is there, and the CPU elsewhere."""
CPU = torch.device("cpu")
MEMORY_SHARE = 1 / 64
"""Share of a device's memory for numbers that are made a chunk at a time."""
_CUBLAS = "CUBLAS_WORKSPACE_CONFIG"


def device_of(config: Mapping[str, Any], asked: AskedDevice = "auto") -> torch.device:
    """Return where the model of a run is asked.

    Args:
        config: of the run, as the registry has it.
        asked: device that the command names.

    Raises:
        ConfigError: there is no such device.
    """
    there = torch.cuda.is_available()
    if asked == "cuda" and not there:
        raise ConfigError(
            "--device=cuda: torch sees no CUDA device here; use --device=cpu, or see `rf doctor` for what is missing"
        )
    own = config.get("train", {}).get("device", "cpu") if asked == "auto" else asked
    return torch.device("cuda") if own == "cuda" and there else CPU


def numbers_at_once(device: torch.device, on_cpu: int) -> int:
    """Return how many numbers of four bytes are held at once: on a CPU what its caches like, elsewhere by the memory there is.

    It depends on the kind of device alone, so that the same machine divides, and rounds, the same way every time.
    """
    if device.type == "cpu":
        return on_cpu
    return max(on_cpu, int(memory_of(device) * MEMORY_SHARE) // 4)


def memory_of(device: torch.device) -> int:
    """Return the bytes of memory of a CUDA device, used or not; 0 of any other."""
    return torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else 0


def prefer_determinism(device: torch.device) -> None:
    """Choose the kernels of a CUDA device that give the same sums every time, where there are such.

    Some have none and warn; fused optimisers of sharded tables are not asked. CPUs need no choice.
    """
    if device.type != "cuda":
        return
    os.environ.setdefault(_CUBLAS, ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
