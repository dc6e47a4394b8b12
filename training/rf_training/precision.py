"""The number format of matrix products."""

from typing import Literal

import torch


def product_dtype(precision: Literal["auto", "float32", "bfloat16"], device: torch.device | None = None) -> torch.dtype:
    """Return the format that a recipe's ``train.precision`` means on a device, default: this machine's CPU.

    ``auto`` is bfloat16 where the processor has matrix tiles for it (AMX on CPUs, GPUs since Ampere), float32 elsewhere:
    vector units alone gain little.
    """
    if precision == "auto":
        if device is not None and device.type == "cuda":
            return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
        return torch.bfloat16 if torch.cpu._is_amx_tile_supported() else torch.float32
    return torch.bfloat16 if precision == "bfloat16" else torch.float32
