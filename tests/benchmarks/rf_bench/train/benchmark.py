"""Measurements of `rf bench train`: the parts of a step, TorchRec beside plain tables, processes, and the two objectives."""

import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rf_bench.synthetic import synthetic_dataset
from rf_bench.train.processes import launch
from rf_bench.train.rig import sampled
from rf_bench.train.summary import Comparison, speed_ratio, throughput
from rf_bench.train.worker import RigPlan, WorkPlan
from rf_platform.cli.console import Tracker, track
from rf_platform.data.synth import SynthOptions
from rf_platform.dataset import Dataset
from rf_platform.dataset.memory import memory_report
from rf_platform.features.spec import ITEM_ID_DOMAIN
from rf_platform.settings import Settings
from rf_training.config import Recipe
from rf_training.model.embeddings import table_name
from rf_training.recipes import DatasetStatistics, get_recipe, override

LEAST_SPEED, MOST_LOADING = 0.8, 0.1
"""Targets: TorchRec's throughput in multiples of plain tables', and the share of a step that loading may take."""
WARMUP, PROFILED = 3, 5
"""Steps before the first round of every rig, and steps under the profiler."""
FEWEST_STEPS = 3
SLOWER = 5
"""Rounds with an exact softmax have fewer steps by this factor: one of them takes long, and time grows alike with all."""
MIXED_NEGATIVES = 1000


@dataclass(frozen=True, kw_only=True)
class BenchOptions:
    """Sizes of a benchmark."""

    users: int = 20_000
    """Of synthetic datasets."""
    events: int = 400_000
    """Of synthetic datasets."""
    catalogs: tuple[int, ...] = (10_000, 100_000)
    """Items for which the objectives are compared; the first is also the catalog of everything else, without a dataset."""
    batch: int = 512
    """Sequences of a step where the objectives are compared, with one target each, as in the paper."""
    rounds: int = 5
    steps: int = 20
    """Steps of a round."""
    processes: int = 2
    threads: int = 1
    """CPU threads of a process."""
    changes: tuple[str, ...] = ()
    """Settings of the recipe, as `rf train --set` takes them."""


@dataclass(frozen=True, kw_only=True)
class TableMemory:
    """Bytes of one embedding table, counted on its tensors, beside what `rf dataset show --memory` works out."""

    table: str
    rows: int
    optimizer: str
    weights_bytes: int
    expected_weights_bytes: int
    state_bytes: int
    expected_state_bytes: int


@dataclass(frozen=True, kw_only=True)
class Objectives:
    """Objectives over one catalog."""

    items: int
    batch: int
    dim: int
    compared: Comparison


@dataclass(frozen=True)
class Target:
    """A target, and how far it is met."""

    target: str
    value: str
    met: bool


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """All figures."""

    options: BenchOptions
    dataset: dict[str, Any]
    """Name and counts."""
    recipe: Recipe
    tables: Comparison
    memory: list[TableMemory]
    processes: Comparison
    objectives: list[Objectives]
    targets: list[Target]


def benchmark(options: BenchOptions, dataset: Dataset | None = None) -> TrainResult:
    """Run everything and return all figures.

    Args:
        options: sizes.
        dataset: what to train on; default: a synthetic one. The objectives are always compared on synthetic ones, for their
            catalogs have to have certain sizes.

    Raises:
        RunError: a process failed.
    """
    launches = 1 + 4 * options.rounds + len(options.catalogs)
    with tempfile.TemporaryDirectory(prefix="rf-bench-") as scratch, track("bench train", launches) as progress:
        catalogs = {}
        for items in options.catalogs:
            progress.advance(0, note=f"making a catalog of {items:,} items")
            settings = Settings(
                home=Path(scratch, str(items)),
                feature_repo=None,
                online_store_url=None,
                feast_registry_url=None,
                feature_service="retrieval",
            )
            sizes = SynthOptions(users=options.users, items=items, events=options.events)
            catalogs[items] = synthetic_dataset(settings, sizes)
        dataset = dataset or catalogs[options.catalogs[0]]
        recipe = override(get_recipe("default", DatasetStatistics.of(dataset)), options.changes)
        tables, memory = _tables(options, dataset, recipe)
        progress.advance(note="TorchRec and plain tables timed")
        processes = _processes(options, dataset, recipe, progress)
        objectives = []
        for items, catalog in catalogs.items():
            objectives.append(_objectives(options, catalog, items))
            progress.advance(note=f"objectives over {items:,} items timed")
    return TrainResult(
        options=options,
        dataset={"name": dataset.name, **dataset.manifest["counts"]},
        recipe=recipe,
        tables=tables,
        memory=memory,
        processes=processes,
        objectives=objectives,
        targets=_targets(tables, memory),
    )


def unsharded(recipe: Recipe) -> Recipe:
    """Return the recipe with all tables on every process, whatever their size: what plain tables can be compared with."""
    return replace(recipe, sharding=replace(recipe.sharding, domains={}, threshold_rows=sys.maxsize))


def with_sharded_ids(recipe: Recipe) -> Recipe:
    """Return the recipe with the table of item ids under ``DistributedModelParallel``, updated in the backward pass."""
    domains = {**recipe.sharding.domains, ITEM_ID_DOMAIN: "table_wise"}
    return replace(recipe, sharding=replace(recipe.sharding, domains=domains))


def _tables(options: BenchOptions, dataset: Dataset, recipe: Recipe) -> tuple[Comparison, list[TableMemory]]:
    """One process: the tables of `rf train`, plain ones, and the item ids' under DistributedModelParallel, in turns."""
    plan = WorkPlan(
        dataset=dataset.path,
        rigs=(
            RigPlan(name="torchrec", recipe=unsharded(recipe)),
            RigPlan(name="plain", recipe=unsharded(recipe), tables="plain"),
            RigPlan(name="sharded", recipe=with_sharded_ids(recipe)),
        ),
        rounds=options.rounds,
        steps=options.steps,
        warmup=WARMUP,
        threads=options.threads,
    )
    found = launch(plan, 1)
    compared = Comparison(
        rigs=[throughput(rig.name, [found]) for rig in plan.rigs],
        speed={name: speed_ratio(name, "plain", [(found, found)]) for name in ("torchrec", "sharded")},
    )
    return compared, _memory(dataset, recipe, found[0]["tables"])


def _memory(dataset: Dataset, recipe: Recipe, measured: dict[str, list[dict[str, Any]]]) -> list[TableMemory]:
    """Bytes of every table, counted on its tensors, beside what `rf dataset show --memory` works out."""
    model, manifest = recipe.model, dataset.manifest
    report = memory_report(
        dataset.spec,
        manifest["vocabularies"],
        items=manifest["counts"]["items"],
        dim=model.dim,
        feature_dim=model.feature_dim,
    )
    expected = {
        table_name(t.domain): t.to_dict()["shared"]
        for t in (report.with_item_id if model.item_id else report.attributes)
    }
    rows = []
    for setup in ("torchrec", "sharded"):
        for table in measured[setup]:
            sizes, fused = expected[table["table"]], setup == "sharded" and table["table"] == table_name(ITEM_ID_DOMAIN)
            if setup == "sharded" and not fused:
                continue  # as above
            rows.append(
                TableMemory(
                    table=table["table"],
                    rows=table["rows"],
                    optimizer="row-wise Adagrad" if fused else "AdamW",
                    weights_bytes=table["weights"],
                    expected_weights_bytes=sizes["weights_bytes"],
                    state_bytes=table["state"],
                    expected_state_bytes=sizes["rowwise_adagrad_state_bytes" if fused else "adamw_state_bytes"],
                )
            )
    return rows


def _processes(options: BenchOptions, dataset: Dataset, recipe: Recipe, progress: Tracker) -> Comparison:
    """One process and several, in turns; each training in processes of its own, so that memory is its own too."""
    recipes = {"data-parallel": unsharded(recipe), "sharded": with_sharded_ids(recipe)}
    found: dict[tuple[str, int], list[list[dict[str, Any]]]] = {}
    for _ in range(options.rounds):
        for name, each in recipes.items():
            for count in (1, options.processes):
                plan = WorkPlan(
                    dataset=dataset.path,
                    rigs=(RigPlan(name=name, recipe=each),),
                    rounds=1,
                    steps=options.steps,
                    warmup=WARMUP,
                    profiled=PROFILED if count > 1 else 0,
                    threads=options.threads,
                )
                found.setdefault((name, count), []).append(launch(plan, count))
                progress.advance(note=f"{name} in {count} processes timed")
    return Comparison(
        rigs=[throughput(name, launches) for (name, _), launches in found.items()],
        speed={
            name: speed_ratio(name, name, list(zip(found[name, options.processes], found[name, 1], strict=True)))
            for name in recipes
        },
    )


def _objectives(options: BenchOptions, dataset: Dataset, items: int) -> Objectives:
    """InfoNCE over the batch, over the batch and uniform items, and the exact softmax over the whole catalog (R23)."""
    base = get_recipe("default", DatasetStatistics.of(dataset))
    base = replace(base, train=replace(base.train, positions="one", batch_size=options.batch))
    exact = replace(base, train=replace(base.train, objective="full"))
    plan = WorkPlan(
        dataset=dataset.path,
        rigs=(
            RigPlan(name="InfoNCE", recipe=sampled(base, 0)),
            RigPlan(name="InfoNCE + uniform", recipe=sampled(base, MIXED_NEGATIVES)),
            RigPlan(name="full softmax", recipe=exact, whole_catalog=True),
        ),
        rounds=options.rounds,
        steps=max(FEWEST_STEPS, options.steps // SLOWER),
        warmup=1,
        threads=options.threads,
    )
    found = launch(plan, 1)
    names = [rig.name for rig in plan.rigs]
    return Objectives(
        items=items,
        batch=options.batch,
        dim=base.model.dim,
        compared=Comparison(
            rigs=[throughput(name, [found]) for name in names],
            speed={name: speed_ratio(name, names[-1], [(found, found)]) for name in names[:-1]},
        ),
    )


def _targets(tables: Comparison, memory: Sequence[TableMemory]) -> list[Target]:
    """Hold the figures against what they should be."""
    loading = next(rig.shares["loading"] for rig in tables.rigs if rig.name == "torchrec")
    speed = tables.speed["torchrec"]["median"]
    wrong = [
        each.table
        for each in memory
        if (each.weights_bytes, each.state_bytes) != (each.expected_weights_bytes, each.expected_state_bytes)
    ]
    exact = f"not so: {', '.join(wrong)}" if wrong else f"all {len(memory)} to the byte"
    return [
        Target(f"loading takes at most {MOST_LOADING:.0%} of a step", f"{loading:.1%}", loading <= MOST_LOADING),
        Target(
            f"TorchRec has at least {LEAST_SPEED} times the throughput of plain tables",
            f"{speed:.2f}x",
            speed >= LEAST_SPEED,
        ),
        Target("tables take the memory that the arithmetic says", exact, not wrong),
    ]
