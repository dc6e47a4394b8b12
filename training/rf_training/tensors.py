"""Tensors and plain values in files, as torch writes them; nothing that is read can be code."""

from pathlib import Path
from typing import Any

import torch

from rf_platform.failures import reading
from rf_platform.interrupts import held


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
