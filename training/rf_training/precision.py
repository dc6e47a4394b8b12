"""The number format of matrix products."""

from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch

CPU_UNITS = ("amx_bf16", "avx512_bf16")
"""What a CPU that multiplies bfloat16 in hardware has one of: AMX tiles, or the dot products of AVX-512."""


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
    """Have matrix products on a device take factors of a format within the block; sums keep theirs."""
    if dtype is not torch.bfloat16:
        return nullcontext()
    return torch.autocast(device.type, dtype)
