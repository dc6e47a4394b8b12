"""A model that one or several processes train: sharded tables on some of them, everything else on all."""

from collections.abc import Mapping
from typing import Any

import torch
from fbgemm_gpu.split_table_batched_embeddings_ops_training import (  # type: ignore[import-untyped]
    SplitTableBatchedEmbeddingBagsCodegen,
)
from torch import Tensor
from torchrec.distributed.embeddingbag import EmbeddingBagCollectionSharder
from torchrec.distributed.model_parallel import DefaultDataParallelWrapper, DistributedModelParallel
from torchrec.distributed.types import ShardingEnv
from torchrec.modules.embedding_modules import EmbeddingBagCollection
from torchrec.optim.keyed import KeyedOptimizer

from rf_training.config import Recipe
from rf_training.distributed.plan import TablePlan, describe, make_plan
from rf_training.distributed.process_group import World
from rf_training.distributed.tables import collect, initialise, sharded_tables, spread
from rf_training.distributed.torchrec_logging import quiet_torchrec
from rf_training.loading.batches import Batch
from rf_training.loss import LossTerms
from rf_training.model.embeddings import ShardedTables
from rf_training.model.retrievalformer import RetrievalFormer
from rf_training.optimizer import WeightAverage, copy_into, fuse_table_optimizer, replicated
from rf_training.step import TrainingStep

SHIFT = "cold_shift"
"""Set after training, zero in it."""


class ParallelModel:
    """Sharded tables under ``DistributedModelParallel``, everything else data-parallel (DDP), gradients summed over processes.

    One process without sharded tables trains the model as it is: no process group, no wrapper.

    Args:
        model: with its sharded tables on the meta device; they are replaced by what this process holds of them.
        recipe: decides where tables go.
        world: the processes.
        device: where this process computes.
    """

    def __init__(self, model: RetrievalFormer, recipe: Recipe, world: World, device: torch.device) -> None:
        self.model, self._world, self._device = model, world, device
        sharded = [module for module in model.modules() if isinstance(module, ShardedTables)]
        self.whole = not sharded
        """Whether every process has all of the model."""
        self._step: torch.nn.Module = TrainingStep(model, recipe.train, world)
        self.fused: KeyedOptimizer | None = None
        plan = None
        if sharded:
            fuse_table_optimizer((p for module in sharded for p in module.parameters()), recipe.sharding)
            plan = make_plan(self._step, recipe.sharding, world, device, [_Sharder()])
        self.plan: list[TablePlan] = describe(model, plan, recipe, world)
        """Placement of every table."""
        if sharded or world.size > 1:
            with quiet_torchrec():
                self._step = DistributedModelParallel(
                    self._step,
                    env=ShardingEnv.from_process_group(world.group()),
                    device=device,
                    plan=plan,
                    sharders=[_Sharder()],
                    # Which weights a step uses depends on the recipe, not on the batch.
                    data_parallel_wrapper=DefaultDataParallelWrapper(static_graph=True),
                )
                self.fused = self._step.fused_optimizer if sharded else None
        self.tables = sharded_tables(model)
        """Sharded tables, by the name they have in a model that is not sharded."""
        initialise(self.tables, recipe.train.seed)

    def loss(self, batch: Batch) -> LossTerms:
        """Return this process's part of a step's loss."""
        return LossTerms(*self._step(batch.to(self._device)))

    def backward(self, loss: Tensor) -> None:
        """Make the gradients of the step's loss, on every process, from the parts that each has of it; update sharded tables."""
        # The wrappers divide by the number of processes.
        (loss * self._world.size).backward()  # type: ignore[no-untyped-call]

    def optimizer_state(self) -> dict[str, Any]:
        """Return the state of the sharded tables' optimiser that this process holds, by name; writing to it changes it."""
        if self.fused is None:
            return {}
        with quiet_torchrec():
            state = self.fused.state_dict()["state"]
        return {f"{parameter}/{name}": value for parameter, values in state.items() for name, value in values.items()}

    def set_optimizer_step(self, step: int) -> None:
        """Set the step count of the sharded tables' optimiser, for Adam's bias correction."""
        for module in self.model.modules():
            if isinstance(module, SplitTableBatchedEmbeddingBagsCodegen):
                module.set_optimizer_step(step)

    def full_state(self, average: WeightAverage | None = None) -> dict[str, Tensor] | None:
        """Return the weights of a model that is not sharded, on the CPU of rank 0, None on others. All have to call it.

        They share memory with the model's where those lie on the CPU as a whole.

        Args:
            average: takes the place of the weights it has.
        """
        weights = replicated(self.model if average is None else average.model)
        state = {name: weight.detach().cpu() for name, weight in weights.items()} if self._world.main else None
        for name, table in self.tables.items():
            whole = collect(table, self._world)
            if state is not None and whole is not None:
                state[name] = whole
        if state is not None:
            state[SHIFT] = torch.zeros(())
        return state

    @torch.no_grad()
    def load_full_state(self, state: Mapping[str, Tensor]) -> None:
        """Load the weights of a model that is not sharded; every process its part of them.

        Raises:
            ValueError: they are of another model.
        """
        weights = {name: weight for name, weight in state.items() if name != SHIFT}
        sizes = {name: tuple(table.metadata().size) for name, table in self.tables.items()}
        if {name: tuple(weights[name].shape) for name in sizes if name in weights} != sizes:
            raise ValueError("the weights are of another model")
        spread(self.tables, weights)
        copy_into(replicated(self.model), {name: w for name, w in weights.items() if name not in self.tables})


def place(model: RetrievalFormer, device: torch.device) -> None:
    """Move a model to a device; its sharded tables stay on the meta device until they are spread."""
    model._apply(lambda tensor: tensor if tensor.is_meta else tensor.to(device))  # type: ignore[no-untyped-call]


class _Sharder(EmbeddingBagCollectionSharder):  # type: ignore[misc]
    """Shards the collections that are meant to be, and no other."""

    @property
    def module_type(self) -> type[EmbeddingBagCollection]:
        return ShardedTables
