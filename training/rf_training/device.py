"""Device of a run: where it computes, in which number format, and how batches get there; one rule for all commands."""

import os
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import fields, is_dataclass, replace
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor

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


CPU_UNITS = ("amx_bf16", "avx512_bf16")
"""Capabilities of which a CPU that multiplies bfloat16 in hardware has one: AMX tiles, or the dot products of AVX-512."""


def product_dtype(precision: Literal["auto", "float32", "bfloat16"], device: torch.device | None = None) -> torch.dtype:
    """Return the format that a recipe's ``train.precision`` means on a device, default: this machine's CPU.

    ``auto`` is bfloat16 where the processor multiplies it itself (CPUs with AMX tiles or AVX-512 BF16, GPUs since Ampere),
    float32 elsewhere.
    """
    if precision == "auto":
        if device is not None and device.type == "cuda":
            return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
        return torch.bfloat16 if any(torch.cpu.get_capabilities().get(unit) for unit in CPU_UNITS) else torch.float32
    return torch.bfloat16 if precision == "bfloat16" else torch.float32


def products(device: torch.device, dtype: torch.dtype) -> AbstractContextManager[None]:
    """Set the number format of the factors of matrix products on a device within the block; sums keep theirs."""
    if dtype is not torch.bfloat16:
        return nullcontext()
    return torch.autocast(device.type, dtype)


T = TypeVar("T")

_ALIGNED = 16
"""Alignment of tensors in bytes: kernels read that many at once."""


def moved(value: T, device: torch.device) -> T:
    """Return tensors in dataclasses, dicts and tuples on a device; the same object where they are to stay on the CPU.

    They are laid out in one buffer, and share its memory afterwards: one copy in place of dozens. For a CUDA device the buffer is
    page-locked and the copy does not wait, so that the next batch is made while the device still computes.
    """
    if device.type == "cpu":
        return value
    tensors: list[Tensor] = []
    _each(value, lambda tensor: tensors.append(tensor) or tensor)  # type: ignore[func-returns-value]
    ends = torch.tensor([-(-tensor.nbytes // _ALIGNED) * _ALIGNED for tensor in tensors]).cumsum(0).tolist()
    packed = torch.empty(ends[-1] if ends else 0, dtype=torch.uint8, pin_memory=device.type == "cuda")
    starts = [0, *ends][: len(tensors)]
    for start, tensor in zip(starts, tensors, strict=True):
        _part(packed, start, tensor).copy_(tensor)
    there = packed.to(device, non_blocking=True)
    parts = iter([_part(there, start, tensor) for start, tensor in zip(starts, tensors, strict=True)])
    found: T = _each(value, lambda tensor: next(parts))
    return found


def _part(packed: Tensor, start: int, like: Tensor) -> Tensor:
    """Return the place in the buffer of a tensor of this type and shape."""
    return packed[start : start + like.nbytes].view(like.dtype).view(like.shape)


def _each(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """Return the same with every tensor changed, in an order that is always the same."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, dict):
        return {key: _each(each, change) for key, each in value.items()}
    if isinstance(value, tuple):
        return tuple(_each(each, change) for each in value)
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{f.name: _each(getattr(value, f.name), change) for f in fields(value)})
    return value
