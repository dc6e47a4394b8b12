"""The way of a batch to a device: all of its tensors in one copy."""

from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")

_ALIGNED = 16
"""Bytes at whose multiples a tensor begins: kernels read that many at once."""


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
