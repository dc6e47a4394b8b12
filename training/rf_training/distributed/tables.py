"""The weights of sharded tables: made, gathered and spread part by part.

No function here ever has more than one table, or one block of rows of it, beside the parts of its own process.
"""

import hashlib
from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed._shard.sharded_tensor.api import ShardedTensor

from rf_training.distributed.process_group import World
from rf_training.distributed.torchrec_logging import quiet_torchrec
from rf_training.model.embeddings import INIT_STD, FeatureEmbeddings

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
    """Give the tables their first weights: a function of seed, table and row, however the tables are cut."""
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
