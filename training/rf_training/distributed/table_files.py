"""Sharded tables in files: each process writes the parts it holds, and reads what it needs of all parts, however many wrote them.

A file has tensors and where they belong, nothing else (``torch.load(weights_only=True)``).
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed._shard.sharded_tensor.api import ShardedTensor

from rf_platform.errors import CorruptError
from rf_platform.files import sync
from rf_training.tensors import load_tensors, save_tensors

_Part = tuple[list[int], Tensor]
"""First place of a part in its table, by dimension, and the part."""


def write_parts(directory: Path, tables: Mapping[str, Any], rank: int) -> None:
    """Write this process's parts of all tables, and have them on disk.

    Args:
        directory: of all processes' files, on a disk that all of them see.
        tables: sharded tensors by name, or tensors that a process has as a whole.
        rank: of this process.

    Raises:
        OSError, RuntimeError: they cannot be written.
    """
    directory.mkdir(exist_ok=True)
    path = directory / f"{rank:05}.pt"
    save_tensors(path, {name: list(_parts(table)) for name, table in tables.items()})
    sync(path)


def read_parts(directory: Path, tables: Mapping[str, Any]) -> None:
    """Read into this process's parts of all tables, in place.

    Raises:
        CorruptError: the files cannot be read, or do not have these tables.
    """
    files: list[dict[str, list[_Part]]] = [
        load_tensors(path, _REMEDY, mmap=True) for path in sorted(directory.glob("*.pt"))
    ]
    if not files:
        raise CorruptError(f"the tables in {directory} are not there, or of an earlier version; {_REMEDY}")
    for name, table in tables.items():
        for first, own in _parts(table):
            found = sum(_copy(first, own, *part) for file in files for part in file.get(name, []))
            if found < own.numel():
                raise CorruptError(f"the tables in {directory} are not those of this run ({name}); {_REMEDY}")


_REMEDY = "start a new run with `rf train`"


def _parts(table: Any) -> Iterator[_Part]:
    if isinstance(table, ShardedTensor):
        for shard in table.local_shards():
            yield list(shard.metadata.shard_offsets), shard.tensor.detach()
    else:
        yield [0] * table.dim(), table.detach()


def _copy(first: list[int], own: Tensor, other_first: list[int], other: Tensor) -> int:
    """Copy what two parts have in common; returns the number of elements."""
    if own.dim() != other.dim():
        return 0
    mine, theirs = [], []
    for a, length, b, other_length in zip(first, own.shape, other_first, other.shape, strict=True):
        start, stop = max(a, b), min(a + length, b + other_length)
        if start >= stop:
            return 0
        mine.append(slice(start - a, stop - a))
        theirs.append(slice(start - b, stop - b))
    with torch.no_grad():
        own[tuple(mine)].copy_(other[tuple(theirs)])
    return own[tuple(mine)].numel()
