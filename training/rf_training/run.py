"""A training run from the registry's point of view: a name, a directory, a recipe, a dataset and a result."""

import json
import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from rf_platform.cli.console import err_console
from rf_platform.dataset import Dataset
from rf_platform.dataset.run_dataset import open_run_dataset, open_with_ids_of
from rf_platform.errors import ConfigError, NotFoundError, RfError, RunError, UsageError
from rf_platform.registry import Registry, RunRecord
from rf_platform.settings import Settings
from rf_training.baselines.sanity_check import Beaten, baselines_ahead_of
from rf_training.config import Recipe, ShardingConfig, TrainConfig
from rf_training.distributed.plan_table import plan_table, write_plan
from rf_training.distributed.process_group import World
from rf_training.model.config import ModelConfig
from rf_training.model_scorer import ModelScorer
from rf_training.recipes import DatasetStatistics, get_recipe, override
from rf_training.run_model import load_run_model
from rf_training.trainer import Trainer, TrainResult
from rf_training.warm_start.recipe import continued_recipe
from rf_training.warm_start.source import SourceBundle, open_source
from rf_training.warm_start.start import WarmStart, check_warm_start


def recipe_for(settings: Settings, name: str, dataset_name: str | None, changes: Iterable[str] = ()) -> Recipe:
    """Return a recipe with the sizes it chooses for a dataset, and single settings changed.

    Args:
        settings: the workspace.
        name: name of the recipe.
        dataset_name: dataset version; default: the newest.
        changes: as `rf train --set` takes them.

    Raises:
        NotFoundError: there is no such recipe or dataset.
        UsageError: a change names no setting, or not a value of it.
    """
    registry = Registry.open(settings.platform_registry_url, root=settings.workspace.root)
    # Mistyped names are told before missing data; whether settings agree depends on the data.
    with suppress(ConfigError):
        override(get_recipe(name), changes)
    data = DatasetStatistics.of(Dataset.open(registry.dataset(dataset_name).path))
    return override(get_recipe(name, data), changes)


def start_run(
    settings: Settings, recipe: Recipe, dataset_name: str | None, name: str | None, world: World | None = None
) -> TrainResult:
    """Train a new run and record it.

    Args:
        settings: the workspace, on a disk that all processes see.
        recipe: complete configuration.
        dataset_name: dataset version; default: the newest.
        name: name of the run; default: the recipe's, with a number.
        world: the processes that train it together and all call this; default: this one alone.

    Raises:
        NotFoundError: there is no such dataset.
        UsageError: the name is taken.
        RunError: training failed; the run is recorded as failed, and can be resumed.
    """
    world = world or World()
    recipe, path, data = _on_main(world, lambda: (recipe, *_begin(settings, recipe, dataset_name, name)))
    return _train(settings, recipe, Dataset.open(data), path, resume=False, world=world)


def continue_run(
    settings: Settings,
    bundle: str,
    dataset_name: str | None,
    name: str | None,
    changes: Iterable[str] = (),
    world: World | None = None,
) -> TrainResult:
    """Train a new run that goes on from a bundle's weights, on a dataset whose vocabularies may have grown, and record it.

    Args:
        settings: the workspace, on a disk that all processes see.
        bundle: name of the bundle.
        dataset_name: dataset version; default: the newest.
        name: name of the run; default: the recipe's, with a number.
        changes: of the bundle's recipe, as `rf train --set` takes them.
        world: the processes that train it together and all call this; default: this one alone.

    Raises:
        NotFoundError: there is no such bundle or dataset.
        UsageError: the name is taken, or a change is of something that the weights depend on.
        ConfigError: a feature means something else in the dataset than in the bundle.
        CorruptError: the bundle is damaged.
        RunError: training failed; the run is recorded as failed, and can be resumed.
    """
    world = world or World()
    recipe, path, data = _on_main(world, lambda: _begin_from(settings, bundle, dataset_name, name, changes))
    return _train(settings, recipe, open_with_ids_of(path, data), path, resume=False, world=world)


def _on_main(world: World, begin: Callable[[], tuple[Recipe, Path, Path]]) -> tuple[Recipe, Path, Path]:
    """Begin on rank 0; the others are told recipe, directory and dataset as plain values."""

    def told() -> list[Any]:
        recipe, path, data = begin()
        return [asdict(recipe), str(path), str(data)]

    recipe, path, data = world.on_main(told)
    return recipe_from_dict(recipe), Path(path), Path(data)


def _begin_from(
    settings: Settings, bundle: str, dataset_name: str | None, name: str | None, changes: Iterable[str]
) -> tuple[Recipe, Path, Path]:
    registry = Registry.open(settings.platform_registry_url, root=settings.workspace.root)
    source = open_source(registry, bundle)
    recipe = continued_recipe(recipe_from_dict(source.config), changes)
    return recipe, *_begin(settings, recipe, dataset_name, name, source)


def _begin(
    settings: Settings, recipe: Recipe, dataset_name: str | None, name: str | None, source: SourceBundle | None = None
) -> tuple[Path, Path]:
    """Record a new run; return its directory and that of its dataset."""
    registry = Registry.open(settings.platform_registry_url, root=settings.workspace.root)
    record = registry.dataset(dataset_name)
    dataset = Dataset.open(record.path)
    start = None if source is None else WarmStart.of(source, dataset)
    name = name or _free_name(recipe.name, settings.workspace.runs)
    directory = settings.workspace.runs / name
    if directory.exists():
        raise UsageError(f"there is a run '{name}' already; `rf train --resume --name {name}`, or choose another name")
    registry.start_run(name, dataset=record.name, recipe=recipe.name, config=asdict(recipe), path=directory)
    directory.mkdir(parents=True)
    if start is not None:
        try:
            start.save(directory, recipe.model)
        except BaseException as error:
            registry.fail_run(name, f"{type(error).__name__}: {error}")
            raise
        start.tell(directory)
    (directory / "run.json").write_text(
        json.dumps(
            {
                "name": name,
                "dataset": str(record.path),
                "dataset_fingerprint": dataset.fingerprint,
                "from": None if source is None else source.ancestor.bundle,
                "recipe": asdict(recipe),
            },
            indent=2,
        )
        + "\n"
    )
    return directory, record.path


def resume_run(settings: Settings, name: str | None, world: World | None = None) -> TrainResult:
    """Go on with a run from its last checkpoint, with the configuration it was started with.

    Args:
        settings: the workspace, on a disk that all processes see.
        name: name of the run; default: the one started last.
        world: the processes that train it together and all call this; they may be more or fewer than before.

    Raises:
        NotFoundError: there is no such run.
        UsageError: the run is complete, or its dataset has changed.
    """
    world = world or World()
    recipe, path, data = _on_main(world, lambda: _begin_again(settings, name))
    return _train(settings, recipe, open_with_ids_of(path, data), path, resume=True, world=world)


def _begin_again(settings: Settings, name: str | None) -> tuple[Recipe, Path, Path]:
    """Record that a run goes on; return its recipe, its directory and that of its dataset."""
    registry = Registry.open(settings.platform_registry_url, root=settings.workspace.root)
    record = registry.run(name)
    if record.status == "completed":
        raise UsageError(f"run '{record.name}' is complete; start a new one, or train longer under another name")
    directory = record.path
    if not (directory / "run.json").exists():
        raise NotFoundError(f"run '{record.name}' has no files in {directory}; start it again")
    recipe = recipe_from_dict(record.config)
    dataset = Dataset.open(registry.dataset(record.dataset).path)
    started_on = json.loads((directory / "run.json").read_text()).get("dataset_fingerprint")
    if started_on != dataset.fingerprint:
        raise UsageError(
            f"run '{record.name}' was started on dataset '{record.dataset}' with the fingerprint {str(started_on)[:12]}, and "
            f"{dataset.path} now has {dataset.fingerprint[:12]}; start a new run with `rf train`"
        )
    check_warm_start(directory)
    registry.start_run(
        record.name, dataset=record.dataset, recipe=record.recipe, config=record.config, path=directory, resume=True
    )
    return recipe, directory, dataset.path


def _train(
    settings: Settings, recipe: Recipe, dataset: Dataset, directory: Path, *, resume: bool, world: World
) -> TrainResult:
    """Train on every process; rank 0 records how it ended."""
    use_threads(settings, world.local_size)
    name = directory.name
    try:
        trainer = Trainer(recipe, dataset, directory, world)
        if world.main:
            write_plan(directory, trainer.parallel.plan, world.size, recipe.train.device)
            err_console().print(plan_table(trainer.parallel.plan, world.size))
        result = trainer.run(resume)
    except KeyboardInterrupt:
        world.broken = True
        _fail(settings, name, "interrupted", world)
        raise RunError(f"run '{name}' was interrupted; `rf train --resume --name {name}` goes on with it") from None
    except BaseException as error:
        _fail(settings, name, str(error) if isinstance(error, RfError) else f"{type(error).__name__}: {error}", world)
        raise
    if world.main:
        registry = Registry.open(settings.platform_registry_url, root=settings.workspace.root)
        write_metrics(directory, registry, name, {"validation": result.validation, "best_epoch": result.best_epoch})
    return result


def _fail(settings: Settings, name: str, reason: str, world: World) -> None:
    if world.main:
        Registry.open(settings.platform_registry_url, root=settings.workspace.root).fail_run(name, reason)


def baselines_ahead(settings: Settings, name: str) -> list[Beaten]:
    """Return the simple baselines that rank a run's validation targets better than its model: a sign of something wrong."""
    record = completed_run(settings, name)
    registry = Registry.open(settings.platform_registry_url, root=settings.workspace.root)
    dataset = open_run_dataset(registry, record)
    return baselines_ahead_of(ModelScorer(load_run_model(record, dataset.encoder), dataset), dataset)


def use_threads(settings: Settings, processes: int = 1) -> None:
    """Give torch ``RF_THREADS`` threads, or half of the cores, divided among the processes of this host.

    The matrices of a small model gain little from more threads, and on a machine that is shared the threads of one step
    wait for each other: twice the threads was a tenth faster alone and ten times slower beside another job.
    """
    torch.set_num_threads(settings.threads or max(1, (os.cpu_count() or 2) // (2 * processes)))


def write_metrics(directory: Path, registry: Registry, name: str, metrics: dict[str, Any]) -> None:
    """Add to a run's ``metrics.json`` and to the registry's record of it."""
    path = directory / "metrics.json"
    merged = {**(json.loads(path.read_text()) if path.exists() else {}), **metrics}
    path.write_text(json.dumps(merged, indent=2, sort_keys=True) + "\n")
    registry.finish_run(name, merged)


def recipe_from_dict(data: dict[str, Any]) -> Recipe:
    """Rebuild a recipe from ``dataclasses.asdict``."""
    return Recipe(
        name=data["name"],
        model=ModelConfig(**data["model"]),
        train=TrainConfig(**data["train"]),
        # Runs of earlier versions have no such section.
        sharding=ShardingConfig(**data.get("sharding", {})),
    )


def completed_run(settings: Settings, name: str | None) -> RunRecord:
    """Return a completed run; default: the one started last.

    Raises:
        UsageError: the run is not complete.
    """
    record = Registry.open(settings.platform_registry_url, root=settings.workspace.root).run(name)
    if record.status != "completed":
        raise UsageError(f"run '{record.name}' is {record.status}; `rf train --resume --name {record.name}` first")
    return record


def _free_name(stem: str, runs: Path) -> str:
    return next(f"{stem}-{n}" for n in range(1, 1_000_000) if not (runs / f"{stem}-{n}").exists())
