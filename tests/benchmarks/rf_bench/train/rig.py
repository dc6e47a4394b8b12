"""One training, driven step by step with a clock on every part of a step."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from time import perf_counter, process_time
from typing import Any, Literal

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile, record_function

from rf_bench.train.plain_embeddings import PlainEmbeddings
from rf_platform.dataset import Dataset
from rf_training.config import Recipe
from rf_training.distributed.plan import sharded_domains
from rf_training.distributed.process_group import World
from rf_training.distributed.torchrec_logging import quiet_torchrec
from rf_training.loading.batches import Batch, BatchLoader
from rf_training.model.retrievalformer import RetrievalFormer
from rf_training.optimizer import WeightAverage, make_optimizer, replicated, table_rate
from rf_training.parallel_model import ParallelModel, place

Tables = Literal["plain", "torchrec"]
PARTS = ("loading", "forward", "backward", "optimiser")
COLLECTIVES = ("gloo:", "nccl:")
"""Prefixes of the profiler's names of collective operations."""


@dataclass(kw_only=True)
class Timing:
    """Seconds of some steps of one process, and what they worked through in all processes."""

    steps: int = 0
    wall: float = 0.0
    cpu: float = 0.0
    """Seconds of all cores together."""
    parts: dict[str, float] = field(default_factory=lambda: dict.fromkeys(PARTS, 0.0))
    """Wall seconds by part of a step."""
    sequences: int = 0
    """Windows of histories."""
    events: int = 0
    """Targets."""


class Rig:
    """A model, its data and its optimiser, as `rf train` puts them together, without validation, checkpoints and curves.

    Args:
        dataset: what is trained on.
        recipe: the complete configuration.
        world: the processes that share a step.
        tables: ``torchrec`` for what `rf train` uses, ``plain`` for one ``nn.EmbeddingBag`` a table.
        whole_catalog: let every item be a candidate, whether it has a training event or not, so that the exact softmax is over
            as many items as the catalog has.
    """

    def __init__(
        self,
        dataset: Dataset,
        recipe: Recipe,
        world: World,
        *,
        tables: Tables = "torchrec",
        whole_catalog: bool = False,
    ) -> None:
        torch.manual_seed(recipe.train.seed)
        self.recipe, self.device, self._world = recipe, world.device(recipe.train.device), world
        model = RetrievalFormer(
            recipe.model, dataset.encoder, sharded_domains(recipe.sharding, dataset.encoder)
        ).train()
        place(model, self.device)
        decay = recipe.train.ema_decay
        self.average = WeightAverage(model, decay) if decay else None
        self.parallel = ParallelModel(model, recipe, world, self.device)
        self.model = self.parallel.model
        self._weights = replicated(self.model)
        if tables == "plain":
            assert self.parallel.whole, "plain tables cannot be spread"
            self.model.embeddings = PlainEmbeddings(self.model.embeddings)  # type: ignore[assignment]
        rate = table_rate(recipe.train, recipe.sharding)
        self.optimizer = make_optimizer(self.model, recipe.train, self.parallel.fused, rate)
        self.loader = BatchLoader(dataset, recipe, world.share)
        if whole_catalog:
            self.loader.negatives = np.arange(dataset.n_items)
            self.loader.number_of_item = np.arange(dataset.n_items)
        self._batches = self._stream()

    def _stream(self) -> Iterator[Batch]:
        epoch = 0
        while True:
            yield from self.loader.epoch(epoch)
            epoch += 1

    def run(self, steps: int) -> Timing:
        """Train some steps."""
        timing = Timing(steps=steps)
        wall, cpu = perf_counter(), process_time()
        for _ in range(steps):
            with self._clock(timing, "loading"):
                batch = next(self._batches)
            with self._clock(timing, "forward"):
                self.optimizer.set_learning_rate(self.recipe.train.learning_rate)
                terms = self.parallel.loss(batch)
                self._world.sum(torch.stack([terms.loss.detach(), terms.alignment, terms.uniformity]))[0].item()
            with self._clock(timing, "backward"):
                self.optimizer.zero_grad()
                self.parallel.backward(terms.loss)
            with self._clock(timing, "optimiser"):
                torch.nn.utils.clip_grad_norm_(list(self._weights.values()), self.recipe.train.clip_norm)
                self.optimizer.step()
                if self.average is not None:
                    self.average.update(self._weights)
            timing.sequences += len(batch.length_B) if batch.weight else 0
            timing.events += int(batch.real_BR.sum()) if batch.weight else 0
        timing.wall, timing.cpu = perf_counter() - wall, process_time() - cpu
        return timing

    @contextmanager
    def _clock(self, timing: Timing, part: str) -> Iterator[None]:
        start = perf_counter()
        with record_function(f"rf:{part}"):
            yield
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)
        timing.parts[part] += perf_counter() - start

    def communication(self, steps: int) -> dict[str, float]:
        """Return the share of each part of a step during which a collective operation was on its way.

        Waiting for a slower process counts, and so does a transfer behind which the process goes on computing: the shares are
        upper bounds of what communication costs.
        """
        activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if self.device.type == "cuda" else [])]
        with quiet_torchrec(), profile(activities=activities) as profiler:
            self.run(steps)
        found = profiler.events() or []
        transfers = _merged([(e.time_range.start, e.time_range.end) for e in found if e.name.startswith(COLLECTIVES)])
        shares = {}
        for part in PARTS:
            spans = [(e.time_range.start, e.time_range.end) for e in found if e.name == f"rf:{part}"]
            total = sum(end - start for start, end in spans)
            shares[part] = sum(_overlap(span, transfers) for span in spans) / total if total else 0.0
        return shares

    def table_bytes(self) -> list[dict[str, Any]]:
        """Return what this process holds of every table: bytes of weights and of optimiser state, counted on the tensors."""
        states = {
            id(p): state
            for part in self.optimizer.parts
            for p, state in part.state.items()
            if isinstance(p, torch.Tensor)
        }
        found: list[dict[str, Any]] = []
        embeddings = self.model.embeddings
        bags = embeddings.tables if isinstance(embeddings, PlainEmbeddings) else embeddings.collection.embedding_bags
        for name, bag in bags.items():
            weight = bag.get_parameter("weight")
            kept = sum(_bytes(s) for s in states.get(id(weight), {}).values() if torch.is_tensor(s) and s.ndim)
            found.append({"table": name, "rows": len(weight), "weights": _bytes(weight), "state": kept})
        fused = self.parallel.fused.state_dict()["state"] if self.parallel.fused is not None else {}
        for name, table in self.parallel.tables.items():
            rows = table.metadata().size[0]
            short = name.split(".embedding_bags.")[1].removesuffix(".weight")
            kept = sum(_local_bytes(s) for key, state in fused.items() if f".{short}." in key for s in state.values())
            found.append({"table": short, "rows": rows, "weights": _local_bytes(table), "state": kept})
        return found


def sampled(recipe: Recipe, uniform_negatives: int) -> Recipe:
    """Return the recipe with InfoNCE over the batch's targets and some uniform negatives."""
    train = replace(recipe.train, objective="sampled", uniform_negatives=uniform_negatives, label_smoothing=0.0)
    return replace(recipe, train=train)


def _merged(spans: list[tuple[float, float]]) -> list[tuple[float, float]]:
    merged: list[tuple[float, float]] = []
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def _overlap(span: tuple[float, float], others: list[tuple[float, float]]) -> float:
    return sum(max(0.0, min(span[1], end) - max(span[0], start)) for start, end in others)


def _bytes(tensor: torch.Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _local_bytes(tensor: Any) -> int:
    """Bytes of the parts of a tensor that this process holds."""
    if hasattr(tensor, "local_shards"):
        return sum(_bytes(shard.tensor) for shard in tensor.local_shards())
    return _bytes(tensor) if torch.is_tensor(tensor) else 0
