"""Placement of embedding tables on processes: the choice by size, TorchRec's planner, and the plan on disk and for people."""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from pathlib import Path

import torch
from rich import box
from rich.table import Table
from torch import nn
from torchrec.distributed.embedding_types import EmbeddingComputeKernel
from torchrec.distributed.planner import EmbeddingShardingPlanner, ParameterConstraints
from torchrec.distributed.planner.storage_reservations import FixedPercentageStorageReservation
from torchrec.distributed.planner.types import PlannerError, Topology
from torchrec.distributed.types import ModuleSharder, ShardingPlan

from rf_platform.errors import ConfigError
from rf_platform.features.encode import FeatureEncoder
from rf_platform.text import byte_size
from rf_training.config import Recipe, ShardingConfig
from rf_training.distributed.process_group import World
from rf_training.distributed.torchrec_logging import quiet_torchrec
from rf_training.model.embeddings import PREFIX, FeatureEmbeddings, ShardedTables
from rf_training.model.retrievalformer import RetrievalFormer

RESERVED = 0.15
"""Share of a process's memory that the planner leaves to the rest of the model, the batch and the optimiser's."""
FLOAT = 4


@dataclass(frozen=True, kw_only=True)
class TablePlan:
    """Placement of one table, and the optimiser that trains it."""

    table: str
    """Domain (or feature, in a model that shares none), after the part of the model where that has tables of its own."""
    rows: int
    dim: int
    sharding: str
    """``data_parallel``, or how it is spread: ``table_wise``, ``column_wise`` and so on."""
    kernel: str
    """``dense``, or TorchRec's compute kernel."""
    optimizer: str
    ranks: tuple[int, ...]
    """Processes that hold any of it."""
    weight_bytes: int
    """Weights of one copy."""
    state_bytes: int
    """State of the optimiser of one copy, and the running average of the weights where it has one."""


def sharded_domains(sharding: ShardingConfig, encoder: FeatureEncoder) -> frozenset[str]:
    """Return the domains with tables that no process has as a whole, which does not depend on the number of processes.

    Raises:
        ConfigError: a domain is named that the dataset does not have.
    """
    rows = {name: vocabulary.rows for name, vocabulary in encoder.vocabularies.items()}
    for domain in sharding.domains:
        if domain not in rows:
            close = get_close_matches(domain, rows, n=1)
            hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(rows)}"
            raise ConfigError(f"sharding.domains.{domain}: the dataset has no domain of that name; {hint}")
    return frozenset(
        domain
        for domain, count in rows.items()
        if sharding.domains.get(domain, "data_parallel" if count < sharding.threshold_rows else "") != "data_parallel"
    )


def make_plan(
    model: nn.Module, sharding: ShardingConfig, world: World, device: torch.device, sharders: list[ModuleSharder]
) -> ShardingPlan:
    """Place the sharded tables of a model by TorchRec's planner; the same plan on every process.

    Raises:
        ConfigError: the tables do not fit, or a sharding asked for is not there on this kind of device.
    """
    constraints: dict[str, ParameterConstraints] = {}
    for module in model.modules():
        for config in module.embedding_bag_configs() if isinstance(module, ShardedTables) else []:
            domain = config.name.removeprefix(PREFIX)
            asked = sharding.domains.get(domain)
            _check(domain, asked, config.embedding_dim, sharding, device)
            # Of the ways to cut a table: those with parts independent of the number of processes, and the one asked for.
            kinds = (
                [asked] if asked else ["table_wise", "column_wise", *(["row_wise"] if device.type == "cuda" else [])]
            )
            if asked is None and config.embedding_dim <= sharding.column_width:
                kinds.remove("column_wise")
            constraints[config.name] = ParameterConstraints(
                sharding_types=kinds, min_partition=sharding.column_width, compute_kernels=_kernels(device)
            )
    with quiet_torchrec():
        topology = Topology(
            world_size=world.size,
            compute_device=device.type,
            local_world_size=world.local_size,
            hbm_cap=torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else None,
            ddr_cap=_memory() // world.local_size,
        )
        planner = EmbeddingShardingPlanner(
            topology=topology,
            constraints=constraints,
            storage_reservation=FixedPercentageStorageReservation(RESERVED),
            debug=False,
        )
        try:
            return planner.collective_plan(model, sharders, world.group())
        except PlannerError as error:
            raise ConfigError(
                f"the tables of domains {', '.join(name.removeprefix(PREFIX) for name in constraints)} do not fit {world.size} "
                f"process(es) with {topology.devices[0].storage} each; start more, on more hosts, or change sharding.domains "
                f"({error})"
            ) from error


def _check(domain: str, asked: str | None, dim: int, sharding: ShardingConfig, device: torch.device) -> None:
    if asked == "row_wise" and device.type == "cpu":
        raise ConfigError(
            f"sharding.domains.{domain}=row_wise: TorchRec offers row-wise tables on GPUs only; use table_wise or column_wise, "
            f"or train.device=cuda"
        )
    if asked == "column_wise" and dim <= sharding.column_width:
        raise ConfigError(
            f"sharding.domains.{domain}=column_wise: a table {dim} wide has no two parts of sharding.column_width="
            f"{sharding.column_width} columns; set that to {max(4, dim // 2 // 4 * 4)}, or use table_wise"
        )
    if sharding.optimizer == "adam" and device.type == "cpu":
        raise ConfigError(
            "sharding.optimizer=adam: there is no such fused optimiser on CPUs; use rowwise_adagrad, or keep the domain "
            f"'{domain}' data-parallel (AdamW) with sharding.domains.{domain}=data_parallel"
        )


def _kernels(device: torch.device) -> list[str]:
    kinds = [EmbeddingComputeKernel.FUSED]
    if device.type == "cuda":
        # Tables larger than the GPUs' memory lie in that of the host, with a cache on the GPU.
        kinds += [EmbeddingComputeKernel.FUSED_UVM_CACHING]
    return [kind.value for kind in kinds]


def _memory() -> int:
    """Return the bytes of memory of this host."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def describe(model: RetrievalFormer, plan: ShardingPlan | None, recipe: Recipe, world: World) -> list[TablePlan]:
    """List all tables of a model, the largest first.

    Args:
        model: before its tables are spread.
        plan: where its sharded tables go, by the path of their collection below ``model.``; None without any.
        recipe: tells the optimisers.
        world: the processes.
    """
    adam, average = recipe.sharding.optimizer == "adam", bool(recipe.train.ema_decay)
    tables: list[TablePlan] = []
    for path, module in model.named_modules():
        if not isinstance(module, FeatureEmbeddings):
            continue
        owner = path.removesuffix("embeddings").replace(".", "/")
        for config in module.collection.embedding_bag_configs():
            rows, dim = config.num_embeddings, config.embedding_dim
            tables.append(
                TablePlan(
                    table=owner + config.name.removeprefix(PREFIX),
                    rows=rows,
                    dim=dim,
                    sharding="data_parallel",
                    kernel="dense",
                    optimizer="AdamW",
                    ranks=tuple(range(world.size)),
                    weight_bytes=FLOAT * rows * dim,
                    state_bytes=FLOAT * rows * dim * (3 if average else 2),
                )
            )
        for config in module.sharded.embedding_bag_configs() if module.sharded is not None else []:
            assert plan is not None
            placed = plan.plan[f"model.{path}.sharded"][config.name]
            rows, dim = config.num_embeddings, config.embedding_dim
            parts = len(placed.sharding_spec.shards) if placed.sharding_type == "column_wise" else 1
            tables.append(
                TablePlan(
                    table=owner + config.name.removeprefix(PREFIX),
                    rows=rows,
                    dim=dim,
                    sharding=placed.sharding_type,
                    kernel=placed.compute_kernel,
                    optimizer="Adam" if adam else "row-wise Adagrad",
                    ranks=tuple(sorted(set(placed.ranks))),
                    weight_bytes=FLOAT * rows * dim,
                    state_bytes=FLOAT * rows * (2 * dim if adam else parts),
                )
            )
    return sorted(tables, key=lambda t: -t.weight_bytes)


FILE = "sharding.json"


def plan_table(tables: Sequence[TablePlan], processes: int) -> Table:
    """Return the plan as a table: every embedding table, where it lies, and what trains it."""
    title = f"Embedding tables on {processes} {'process' if processes == 1 else 'processes'}"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for column in ("table", "rows", "dim", "sharding", "kernel", "optimiser", "ranks", "weights", "state"):
        table.add_column(column, justify="right" if column in ("rows", "dim", "weights", "state") else "left")
    for t in tables:
        ranks = "all" if len(t.ranks) == processes > 1 else ", ".join(map(str, t.ranks))
        sizes = (byte_size(t.weight_bytes), byte_size(t.state_bytes))
        table.add_row(t.table, f"{t.rows:,}", str(t.dim), t.sharding, t.kernel, t.optimizer, ranks, *sizes)
    return table


def write_plan(directory: Path, tables: Sequence[TablePlan], processes: int, device: str) -> None:
    """Store the plan in a run's ``sharding.json``; a run that goes on with other processes replaces it."""
    document = {"processes": processes, "device": device, "tables": [asdict(t) for t in tables]}
    (directory / FILE).write_text(json.dumps(document, indent=2) + "\n")
