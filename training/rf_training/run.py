"""A training run from the registry's point of view: a name, a directory, a recipe, a dataset and a result."""

import json
import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import asdict
from itertools import count
from pathlib import Path
from typing import Any

import torch

from rf_platform.bundle import check_name
from rf_platform.cli.console import err_console
from rf_platform.dataset import Dataset
from rf_platform.dataset.run_dataset import ENCODER, open_dataset, open_run_dataset, open_with_ids_of
from rf_platform.errors import (
    ConfigError,
    InterruptedRunError,
    NotFoundError,
    UnavailableError,
    UsageError,
)
from rf_platform.failures import as_rf_error, read_json
from rf_platform.features.lineage import LINEAGE
from rf_platform.files import replace_text
from rf_platform.interrupts import held, received
from rf_platform.locks import claimed, sole
from rf_platform.registry import Registry, RunRecord, fetched, published
from rf_platform.settings import Settings
from rf_platform.staging import staged
from rf_training.baselines.sanity_check import Beaten, baselines_ahead_of
from rf_training.callbacks import Callback
from rf_training.config import Recipe, ShardingConfig, TrainConfig
from rf_training.distributed.plan import plan_table, write_plan
from rf_training.distributed.process_group import World
from rf_training.model.config import ModelConfig
from rf_training.model_scorer import ModelScorer
from rf_training.recipes import DatasetStatistics, get_recipe, override
from rf_training.run_model import load_run_model
from rf_training.trainer import INITIAL, Trainer, TrainResult
from rf_training.warm_start.start import SourceBundle, WarmStart, check_warm_start, continued_recipe, open_source

RUN, METRICS = "run.json", "metrics.json"
"""Files in a run's directory: what it was started with, and what came of it."""
_BEGUN = {RUN, ENCODER, LINEAGE, INITIAL}
"""All that a run's directory has before the run is recorded."""
_STARTING = ".starting-"


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
    registry = Registry.of(settings)
    # Mistyped names are told before missing data; whether settings agree depends on the data.
    with suppress(ConfigError):
        override(get_recipe(name), changes)
    data = DatasetStatistics.of(open_dataset(registry, dataset_name))
    return override(get_recipe(name, data), changes)


def start_run(
    settings: Settings,
    recipe: Recipe,
    dataset_name: str | None,
    name: str | None,
    world: World | None = None,
    callbacks: Sequence[Callback] = (),
    *,
    trial: bool = False,
) -> TrainResult:
    """Train a new run and record it.

    Args:
        settings: the workspace, on a disk that all processes see.
        recipe: complete configuration.
        dataset_name: dataset version; default: the newest.
        name: name of the run; default: the recipe's, with a number.
        world: the processes that train it together and all call this; default: this one alone.
        callbacks: told of steps and epochs on process 0.
        trial: it is one of many, such as a cell of an ablation, and never taken where no run is named.

    Raises:
        NotFoundError: there is no such dataset.
        UsageError: the name is taken.
        RunError: training failed; the run is recorded as failed, and can be resumed.
    """
    world = world or World()
    with ExitStack() as claim:
        recipe, path, data = _on_main(
            world, lambda: (recipe, *_begin(settings, recipe, dataset_name, name, claim, trial=trial))
        )
        return _train(settings, recipe, Dataset.open(data), path, resume=False, world=world, callbacks=callbacks)


def continue_run(
    settings: Settings,
    bundle: str,
    dataset_name: str | None,
    name: str | None,
    changes: Iterable[str] = (),
    world: World | None = None,
    callbacks: Sequence[Callback] = (),
) -> TrainResult:
    """Train a new run from a bundle's weights (warm start), on a dataset with perhaps grown vocabularies, and record it.

    Args:
        settings: the workspace, on a disk that all processes see.
        bundle: name of the bundle.
        dataset_name: dataset version; default: the newest.
        name: name of the run; default: the recipe's, with a number.
        changes: of the bundle's recipe, as `rf train --set` takes them.
        world: the processes that train it together and all call this; default: this one alone.
        callbacks: told of steps and epochs on process 0.

    Raises:
        NotFoundError: there is no such bundle or dataset.
        UsageError: the name is taken, or a change is of something that the weights depend on.
        ConfigError: a feature means something else in the dataset than in the bundle.
        CorruptError: the bundle is damaged.
        RunError: training failed; the run is recorded as failed, and can be resumed.
    """
    world = world or World()
    with ExitStack() as claim:
        recipe, path, data = _on_main(world, lambda: _begin_from(settings, bundle, dataset_name, name, changes, claim))
        return _train(
            settings, recipe, open_with_ids_of(path, data), path, resume=False, world=world, callbacks=callbacks
        )


def _on_main(world: World, begin: Callable[[], tuple[Recipe, Path, Path]]) -> tuple[Recipe, Path, Path]:
    """Begin on rank 0; the others are told recipe, directory and dataset as plain values."""

    def told() -> list[Any]:
        recipe, path, data = begin()
        return [asdict(recipe), str(path), str(data)]

    recipe, path, data = world.on_main(told)
    return recipe_from_dict(recipe), Path(path), Path(data)


def _begin_from(
    settings: Settings,
    bundle: str,
    dataset_name: str | None,
    name: str | None,
    changes: Iterable[str],
    claim: ExitStack,
) -> tuple[Recipe, Path, Path]:
    registry = Registry.of(settings)
    source = open_source(registry, bundle)
    recipe = continued_recipe(recipe_from_dict(source.config), changes)
    return recipe, *_begin(settings, recipe, dataset_name, name, claim, source)


def _begin(
    settings: Settings,
    recipe: Recipe,
    dataset_name: str | None,
    name: str | None,
    claim: ExitStack,
    source: SourceBundle | None = None,
    *,
    trial: bool = False,
) -> tuple[Path, Path]:
    """Record a new run, claimed by this process; return its directory and that of its dataset."""
    registry = Registry.of(settings)
    record = fetched(registry, registry.dataset(dataset_name))
    dataset = Dataset.open(record.path)
    start = None if source is None else WarmStart.of(source, dataset)
    directory = _claimed(settings, registry, recipe.name, name, claim)
    facts = {
        "name": directory.name,
        "dataset": str(record.path),
        "dataset_fingerprint": dataset.fingerprint,
        "from": None if source is None else source.ancestor.bundle,
        "recipe": asdict(recipe),
    }
    with staged(directory, _STARTING) as fresh:
        if start is not None:
            start.save(fresh, recipe.model)
        (fresh / RUN).write_text(json.dumps(facts, indent=2) + "\n")
    try:
        registry.start_run(
            directory.name,
            dataset=record.name,
            recipe=recipe.name,
            config=asdict(recipe),
            path=directory,
            trial=trial,
        )
    except BaseException:
        with held():
            shutil.rmtree(directory, ignore_errors=True)
        raise
    if start is not None:
        start.tell(directory)
    return directory, record.path


def _claimed(settings: Settings, registry: Registry, recipe: str, name: str | None, claim: ExitStack) -> Path:
    """Claim the name of a new run, for as long as ``claim`` is open; return its directory, which is not there yet.

    Raises:
        UsageError: the name is taken or not usable, or another process is training a run of that name.
    """
    runs = settings.workspace.runs
    if name is not None:
        directory = runs / check_name("run", name)
        claim.enter_context(_claim(directory))
        if directory.exists() and not _abandoned(directory, registry):
            raise UsageError(
                f"there is a run '{name}' already; `rf train --resume --name {name}`, or choose another name"
            )
        return directory
    for number in count(1):
        directory = runs / f"{recipe}-{number}"
        if not directory.exists() and claim.enter_context(claimed(_lock(directory))) and not directory.exists():
            return directory
    raise AssertionError


def _abandoned(directory: Path, registry: Registry) -> bool:
    """Remove what a process has left that was killed before its run was recorded; False for anything else."""
    if directory.is_symlink() or not directory.is_dir() or any(run.name == directory.name for run in registry.runs()):
        return False
    if not {RUN} <= {path.name for path in directory.iterdir()} <= _BEGUN:
        return False
    shutil.rmtree(directory)
    return True


def _claim(directory: Path) -> AbstractContextManager[None]:
    return sole(_lock(directory), f"run '{directory.name}' is being trained")


def _lock(directory: Path) -> Path:
    return directory.parent / ".locks" / directory.name


def resume_run(
    settings: Settings, name: str | None, world: World | None = None, callbacks: Sequence[Callback] = ()
) -> TrainResult:
    """Resume a run from its last checkpoint, with the configuration it was started with.

    Args:
        settings: the workspace, on a disk that all processes see.
        name: name of the run; default: the one started last.
        world: the processes that train it together and all call this; they may be more or fewer than before.
        callbacks: told of steps and epochs on process 0.

    Raises:
        NotFoundError: there is no such run.
        UsageError: the run is complete, or its dataset has changed.
    """
    world = world or World()
    with ExitStack() as claim:
        recipe, path, data = _on_main(world, lambda: _begin_again(settings, name, claim))
        return _train(
            settings, recipe, open_with_ids_of(path, data), path, resume=True, world=world, callbacks=callbacks
        )


def _begin_again(settings: Settings, name: str | None, claim: ExitStack) -> tuple[Recipe, Path, Path]:
    """Record that a run goes on, claimed by this process; return its recipe, its directory and that of its dataset."""
    registry = Registry.of(settings)
    directory = fetched(registry, registry.run(name)).path
    claim.enter_context(_claim(directory))
    record = registry.run(directory.name)  # as the one that had it before has left it
    if record.status == "completed":
        raise UsageError(f"run '{record.name}' is complete; start a new one, or train longer under another name")
    if not (directory / RUN).exists():
        raise NotFoundError(f"run '{record.name}' has no files in {directory}; start it again")
    recipe = recipe_from_dict(record.config)
    dataset = open_dataset(registry, record.dataset)
    facts = read_json(directory / RUN, "restore the file, or start a new run with `rf train`")
    started_on = facts.get("dataset_fingerprint")
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
    settings: Settings,
    recipe: Recipe,
    dataset: Dataset,
    directory: Path,
    *,
    resume: bool,
    world: World,
    callbacks: Sequence[Callback],
) -> TrainResult:
    """Train on every process; rank 0 records how it ended."""
    use_threads(settings, world.local_size)
    name = directory.name
    try:
        trainer = Trainer(recipe, dataset, directory, world, callbacks)
        if world.main:
            write_plan(directory, trainer.parallel.plan, world.size, recipe.train.device)
            err_console().print(plan_table(trainer.parallel.plan, world.size))
        result = trainer.run(resume)
        if world.main:
            registry = Registry.of(settings)
            found = {"validation": result.validation, "best_epoch": result.best_epoch}
            write_metrics(directory, registry, name, found)
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt) or received() is not None:  # also one that a library has swallowed
            world.broken = True
            _fail(settings, name, "interrupted", world)
            raise InterruptedRunError(
                f"run '{name}' was interrupted; `rf train --resume --name {name}` goes on with it"
            ) from None
        known = as_rf_error(error, place=directory)
        _fail(settings, name, f"{type(error).__name__}: {error}" if known is None else str(known), world)
        raise
    if world.main and not (record := registry.run(name)).trial:
        published(registry, record)
    return result


def _fail(settings: Settings, name: str, reason: str, world: World) -> None:
    """Record why a run ended; where the registry is what failed, or has no room, the reason itself is still told."""
    if world.main:
        with held(), suppress(UnavailableError):
            Registry.of(settings).fail_run(name, reason)


def baselines_ahead(settings: Settings, name: str) -> list[Beaten]:
    """Return the simple baselines that rank a run's validation targets better than its model: a sign of something wrong."""
    record = completed_run(settings, name)
    registry = Registry.of(settings)
    dataset = open_run_dataset(registry, record)
    return baselines_ahead_of(ModelScorer(load_run_model(record, dataset.encoder), dataset), dataset)


def use_threads(settings: Settings, processes: int = 1) -> None:
    """Set torch's threads: ``RF_THREADS``, or half of the cores, divided among the processes of this host.

    The matrices of a small model gain little from more threads, and on a machine that is shared the threads of one step
    wait for each other: twice the threads was a tenth faster alone and ten times slower beside another job.
    """
    torch.set_num_threads(settings.threads or max(1, (os.cpu_count() or 2) // (2 * processes)))


def write_metrics(directory: Path, registry: Registry, name: str, metrics: dict[str, Any]) -> None:
    """Add to a run's ``metrics.json`` and to the registry's record of it."""
    path = directory / METRICS
    merged = {**(read_metrics(directory) if path.exists() else {}), **metrics}
    replace_text(path, json.dumps(merged, indent=2, sort_keys=True) + "\n")
    registry.finish_run(name, merged)


def read_metrics(directory: Path) -> dict[str, Any]:
    """Read a run's ``metrics.json``.

    Raises:
        CorruptError: it is missing or damaged.
    """
    return read_json(directory / METRICS, "restore the file, or train the run again")


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
    registry = Registry.of(settings)
    record = registry.run(name)
    if record.status != "completed":
        raise UsageError(f"run '{record.name}' is {record.status}; `rf train --resume --name {record.name}` first")
    return fetched(registry, record)
