"""What `rf bench train` measures: the parts of a step, TorchRec beside plain tables, processes, and the two objectives."""

import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rf_bench.train.data import synthetic_dataset
from rf_bench.train.processes import launch
from rf_bench.train.rig import sampled
from rf_bench.train.summary import speed_ratio, throughput
from rf_bench.train.worker import RigPlan, WorkPlan
from rf_platform.cli.console import Tracker, track
from rf_platform.dataset import Dataset
from rf_platform.dataset.memory import memory_report
from rf_platform.features.spec import ITEM_ID_DOMAIN
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


def benchmark(options: BenchOptions, dataset: Dataset | None = None) -> dict[str, Any]:
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
            catalogs[items] = synthetic_dataset(
                Path(scratch, str(items)), users=options.users, items=items, events=options.events
            )
        dataset = dataset or catalogs[options.catalogs[0]]
        recipe = override(get_recipe("default", DatasetStatistics.of(dataset)), options.changes)
        tables = _tables(options, dataset, recipe)
        progress.advance(note="TorchRec and plain tables timed")
        processes = _processes(options, dataset, recipe, progress)
        objectives = []
        for items, catalog in catalogs.items():
            objectives.append(_objectives(options, catalog, items))
            progress.advance(note=f"objectives over {items:,} items timed")
    result = {
        "options": asdict(options),
        "dataset": {"name": dataset.name, **dataset.manifest["counts"]},
        "recipe": asdict(recipe),
        "tables": tables,
        "processes": processes,
        "objectives": objectives,
    }
    return {**result, "targets": targets(result)}


def unsharded(recipe: Recipe) -> Recipe:
    """Return the recipe with all tables on every process, whatever their size: what plain tables can be compared with."""
    return replace(recipe, sharding=replace(recipe.sharding, domains={}, threshold_rows=sys.maxsize))


def with_sharded_ids(recipe: Recipe) -> Recipe:
    """Return the recipe with the table of item ids under ``DistributedModelParallel``, updated in the backward pass."""
    domains = {**recipe.sharding.domains, ITEM_ID_DOMAIN: "table_wise"}
    return replace(recipe, sharding=replace(recipe.sharding, domains=domains))


def _tables(options: BenchOptions, dataset: Dataset, recipe: Recipe) -> dict[str, Any]:
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
    return {
        "rigs": [throughput(rig.name, [found]).to_dict() for rig in plan.rigs],
        "speed": {name: speed_ratio(name, "plain", [(found, found)]) for name in ("torchrec", "sharded")},
        "memory": _memory(dataset, recipe, found[0]["tables"]),
    }


def _memory(dataset: Dataset, recipe: Recipe, measured: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
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
                {
                    "table": table["table"],
                    "rows": table["rows"],
                    "optimizer": "row-wise Adagrad" if fused else "AdamW",
                    "weights_bytes": table["weights"],
                    "expected_weights_bytes": sizes["weights_bytes"],
                    "state_bytes": table["state"],
                    "expected_state_bytes": sizes["rowwise_adagrad_state_bytes" if fused else "adamw_state_bytes"],
                }
            )
    return rows


def _processes(options: BenchOptions, dataset: Dataset, recipe: Recipe, progress: Tracker) -> dict[str, Any]:
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
    return {
        "rigs": [throughput(name, launches).to_dict() for (name, _), launches in found.items()],
        "speed": {
            name: speed_ratio(name, name, list(zip(found[name, options.processes], found[name, 1], strict=True)))
            for name in recipes
        },
    }


def _objectives(options: BenchOptions, dataset: Dataset, items: int) -> dict[str, Any]:
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
    return {
        "items": items,
        "batch": options.batch,
        "dim": base.model.dim,
        "rigs": [throughput(name, [found]).to_dict() for name in names],
        "speed": {name: speed_ratio(name, names[-1], [(found, found)]) for name in names[:-1]},
    }


def targets(result: dict[str, Any]) -> list[dict[str, Any]]:
    """Hold the figures against what they should be."""
    trained = _named(result["tables"]["rigs"], "torchrec")
    speed = result["tables"]["speed"]["torchrec"]["median"]
    wrong = [
        row["table"]
        for row in result["tables"]["memory"]
        if (row["weights_bytes"], row["state_bytes"]) != (row["expected_weights_bytes"], row["expected_state_bytes"])
    ]
    return [
        {
            "target": f"loading takes at most {MOST_LOADING:.0%} of a step",
            "value": f"{trained['shares']['loading']:.1%}",
            "met": trained["shares"]["loading"] <= MOST_LOADING,
        },
        {
            "target": f"TorchRec has at least {LEAST_SPEED} times the throughput of plain tables",
            "value": f"{speed:.2f}x",
            "met": speed >= LEAST_SPEED,
        },
        {
            "target": "tables take the memory that the arithmetic says",
            "value": f"all {len(result['tables']['memory'])} to the byte"
            if not wrong
            else f"not so: {', '.join(wrong)}",
            "met": not wrong,
        },
    ]


def _named(rigs: Sequence[dict[str, Any]], name: str) -> dict[str, Any]:
    return next(rig for rig in rigs if rig["name"] == name)
