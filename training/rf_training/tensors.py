"""Tensors in files: weights in safetensors, and tensors with plain values as torch writes them; nothing that is read is code."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rf_platform.errors import CorruptError
from rf_platform.failures import reading
from rf_platform.interrupts import held

WEIGHTS = "weights.safetensors"
"""File of a model's weights in its directory."""
_EARLIER = "weights.pt"
"""The same in directories of earlier versions, in torch's own format."""
_NAMES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
"""Types as the header of a file names them."""


def weights_file(directory: Path) -> Path:
    """Return the path of a model's weights in its directory, which need not be there; earlier versions had another name."""
    path, earlier = directory / WEIGHTS, directory / _EARLIER
    return earlier if earlier.is_file() and not path.exists() else path


def save_weights_file(path: Path, weights: Mapping[str, Tensor]) -> None:
    """Write tensors by name to a file of safetensors, one after the other.

    The package's own writer makes another file beside it, which only its owner may read, and which stays when it is killed.

    Raises:
        OSError: the file cannot be written.
    """
    order = sorted(
        weights.items(), key=lambda each: (-each[1].element_size(), each[0])
    )  # each begins at a multiple of its size
    header, end = dict[str, Any](), 0
    for name, weight in order:
        start, end = end, end + weight.numel() * weight.element_size()
        header[name] = {"dtype": _NAMES[weight.dtype], "shape": list(weight.shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with held(), path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for _, weight in order:
            file.write(weight.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)


def load_weights_file(path: Path, remedy: str) -> dict[str, Tensor]:
    """Read tensors by name, mapped into memory, from a file of safetensors or, by its suffix, of an earlier version.

    Args:
        path: the file.
        remedy: what to do about a damaged one, for the message.

    Raises:
        CorruptError: the file is missing, damaged, or has other things than weights.
    """
    from safetensors.torch import load_file

    if path.suffix != Path(_EARLIER).suffix:
        with reading(path, remedy):
            found: dict[str, Tensor] = load_file(path)
            return found
    weights: dict[str, Tensor] = load_tensors(path, remedy, mmap=True)
    if not isinstance(weights, dict) or not all(isinstance(each, Tensor) for each in weights.values()):
        raise CorruptError(f"{path} has no weights of a model; {remedy}")
    return weights


def save_tensors(path: Path, values: Any) -> None:
    """Write tensors and plain values, in lists and dicts, to a file.

    An interrupt waits until the file is written: torch's archive ends the whole process when it is cut off inside a write.

    Raises:
        OSError, RuntimeError: the file cannot be written.
    """
    with held(), path.open("wb") as file:
        torch.save(values, file)


def load_tensors(path: Path, remedy: str, *, mmap: bool = False) -> Any:
    """Read a file of :func:`save_tensors`, on the CPU.

    Args:
        path: the file.
        remedy: what to do about a damaged one, for the message.
        mmap: map the file into memory instead of reading it.

    Raises:
        CorruptError: the file is missing, damaged, or of another kind.
    """
    with reading(path, remedy):
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
