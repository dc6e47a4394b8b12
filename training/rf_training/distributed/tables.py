"""Weights of sharded tables: made, gathered and spread part by part, in memory and in files.

No function here ever has more than one table, or one block of rows of it, beside the parts of its own process. Each process
writes the parts it holds, and reads what it needs of all parts, however many wrote them. A file has tensors and where they
belong, nothing else (``torch.load(weights_only=True)``).
"""

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed._shard.sharded_tensor.api import ShardedTensor

from rf_platform.errors import CorruptError
from rf_platform.files import sync
from rf_training.distributed.process_group import World
from rf_training.distributed.torchrec_logging import quiet_torchrec
from rf_training.model.embeddings import INIT_STD, FeatureEmbeddings
from rf_training.tensors import load_tensors, save_tensors

BLOCK = 1 << 16
"""Rows that are made, sent or received at once."""


def sharded_tables(model: nn.Module) -> dict[str, ShardedTensor]:
    """Return the sharded tables by the name they have in a model that is not sharded; writing to their parts changes them."""
    found: dict[str, ShardedTensor] = {}
    with quiet_torchrec():
        for path, module in model.named_modules():
            if isinstance(module, FeatureEmbeddings) and module.sharded is not None:
                for name, tensor in module.sharded.state_dict().items():
                    found[f"{path}.collection.{name}"] = tensor
    return found


def initialise(tables: dict[str, ShardedTensor], seed: int) -> None:
    """Initialise the tables' weights: a function of seed, table and row, however the tables are cut."""
    for name, table in tables.items():
        rows, dim = table.metadata().size
        for shard in table.local_shards():
            (first, left), (count, width) = shard.metadata.shard_offsets, shard.metadata.shard_sizes
            for block in range(first // BLOCK, -(-(first + count) // BLOCK)):
                start, stop = max(first, block * BLOCK), min(first + count, (block + 1) * BLOCK)
                drawn = torch.empty(min(BLOCK, rows - block * BLOCK), dim)
                drawn.normal_(std=INIT_STD, generator=_generator(seed, name, block))
                part = drawn[start - block * BLOCK : stop - block * BLOCK, left : left + width]
                shard.tensor.detach()[start - first : stop - first].copy_(part)


def spread(tables: dict[str, ShardedTensor], state: dict[str, Tensor]) -> None:
    """Copy whole tables, by the names of :func:`sharded_tables`, into the parts that this process holds."""
    for name, table in tables.items():
        for shard in table.local_shards():
            (first, left), (count, width) = shard.metadata.shard_offsets, shard.metadata.shard_sizes
            shard.tensor.detach().copy_(state[name][first : first + count, left : left + width])


def collect(table: ShardedTensor, world: World) -> Tensor | None:
    """Return a whole table, in the memory of rank 0's host; None on other ranks. All of them have to call it."""
    own = {tuple(s.metadata.shard_offsets): s.tensor.detach() for s in table.local_shards()}
    whole = torch.empty(tuple(table.metadata().size)) if world.main else None
    for shard in table.metadata().shards_metadata:
        assert shard.placement is not None
        owner = shard.placement.rank()
        (first, left), (count, width) = shard.shard_offsets, shard.shard_sizes
        for start, stop in _blocks(count):
            part = own[tuple(shard.shard_offsets)][start:stop].cpu().contiguous() if owner == world.rank else None
            if owner == 0:
                received = part
            elif world.main:
                received = torch.empty(stop - start, width)
                dist.recv(received, owner, group=world.group())
            elif part is not None:
                dist.send(part, 0, group=world.group())
            if whole is not None:
                assert received is not None
                whole[first + start : first + stop, left : left + width] = received
    return whole


def _blocks(rows: int) -> Iterator[tuple[int, int]]:
    for start in range(0, rows, BLOCK):
        yield start, min(start + BLOCK, rows)


def _generator(*key: Any) -> torch.Generator:
    digest = hashlib.sha256(repr(key).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little", signed=True))


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
