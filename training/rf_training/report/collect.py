"""Contents of a run report: training curves, settings beside those of the recipe; a sentence stands for what is missing."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from rf_platform.dataset import Dataset
from rf_platform.dataset.run_dataset import open_run_dataset
from rf_platform.errors import NotFoundError, RfError
from rf_platform.failures import reading
from rf_platform.registry import Registry, RunRecord, fetched
from rf_platform.registry.records import DatasetRecord
from rf_platform.settings import Settings
from rf_training.evaluation import training_items
from rf_training.model_scorer import ModelScorer
from rf_training.notes import read_notes
from rf_training.recipes import TYPICAL, DatasetStatistics, get_recipe
from rf_training.report.example_users import ExampleUser, example_users
from rf_training.report.item_map import ItemMap, item_map
from rf_training.report.model_size import ModelSize, model_size
from rf_training.run_model import load_run_model
from rf_training.tensors import load_weights_file, weights_file


@dataclass(frozen=True, eq=False)
class Curve:
    """One scalar against optimiser steps."""

    steps: npt.NDArray[np.int64]
    """``[n]``, rising."""
    values: npt.NDArray[np.float64]
    """``[n]``."""


@dataclass(frozen=True, eq=False)
class BinnedCurve:
    """A curve with at most so many points as can be told apart: mean and range of neighbouring points."""

    steps: npt.NDArray[np.float64]
    mean: npt.NDArray[np.float64]
    low: npt.NDArray[np.float64]
    high: npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Recorded:
    """All scalars of a run."""

    curves: dict[str, Curve]
    """By TensorBoard tag, such as ``train/loss``; a tag with no value is left out."""
    seconds: float
    """From the opening of the first event file to the last value, pauses before a resume included."""


def read_curves(directory: Path) -> Recorded | None:
    """Read the event files of a run; None where there is no scalar in them.

    Where a killed run went on from a checkpoint, the values it had logged after that checkpoint are superseded: of
    several values for one step the last one counts.
    """
    if not directory.is_dir():
        return None
    events = EventAccumulator(str(directory), size_guidance={"scalars": 0})
    with reading(directory, "delete what is damaged in it"):
        events.Reload()
    curves: dict[str, Curve] = {}
    last = 0.0
    for tag in events.Tags()["scalars"]:
        by_step = {event.step: event.value for event in events.Scalars(tag)}
        steps = sorted(by_step)
        curves[tag] = Curve(np.array(steps, np.int64), np.array([by_step[step] for step in steps], np.float64))
        last = max(last, *(event.wall_time for event in events.Scalars(tag)))
    return Recorded(curves, last - events.FirstEventTimestamp()) if curves else None


def binned(curve: Curve, most: int = 240) -> BinnedCurve:
    """Join neighbouring points so that at most ``most`` are left; a short curve keeps all of its points."""
    count = len(curve.steps)
    starts = np.unique(np.linspace(0, count, min(count, most), endpoint=False).astype(np.int64))
    sizes = np.diff([*starts, count])
    return BinnedCurve(
        np.add.reduceat(curve.steps, starts) / sizes,
        np.add.reduceat(curve.values, starts) / sizes,
        np.minimum.reduceat(curve.values, starts),
        np.maximum.reduceat(curve.values, starts),
    )


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One setting."""

    name: str
    """As `rf train --set` takes it, for example ``model.dim``."""
    value: Any
    recipe: Any
    """The recipe's value, or None where the recipe is not known or does not have it."""
    changed: bool
    """Whether the run differs from the recipe."""


def recipe_values(name: str, dataset: Dataset | None) -> dict[str, dict[str, Any]] | None:
    """Return the sections of a recipe as plain values, or None where no recipe has that name any more.

    Args:
        name: the recipe.
        dataset: what its sizes are chosen by; None for a typical one.
    """
    try:
        recipe = get_recipe(name, TYPICAL if dataset is None else DatasetStatistics.of(dataset))
    except NotFoundError:
        return None
    return {"model": asdict(recipe.model), "train": asdict(recipe.train), "sharding": asdict(recipe.sharding)}


def compare_settings(config: Mapping[str, Any], recipe: Mapping[str, Mapping[str, Any]] | None) -> list[Setting]:
    """List all settings of a run's configuration, section by section.

    A setting that the recipe does not have, because it was taken out or added since, counts as changed.
    """
    return [
        Setting(
            name=f"{section}.{name}",
            value=value,
            recipe=None if recipe is None else recipe[section].get(name),
            changed=recipe is not None and (name not in recipe[section] or recipe[section][name] != value),
        )
        for section in ("model", "train", "sharding")
        # Runs of earlier versions have no section of that name.
        for name, value in config.get(section, {}).items()
    ]


@dataclass(kw_only=True)
class RunReport:
    """A run as its report shows it."""

    run: RunRecord
    recorded_dataset: DatasetRecord
    dataset: Dataset | None = None
    settings: list[Setting] = field(default_factory=list)
    recorded: Recorded | None = None
    history: list[dict[str, Any]] = field(default_factory=list)
    size: ModelSize | None = None
    item_map: ItemMap | None = None
    examples: list[ExampleUser] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)
    """By section: the sentence that stands in its place."""

    @property
    def test(self) -> dict[str, Any] | None:
        """Report of `rf evaluate` on the test split; None without one, or with one of a form without segments."""
        found: dict[str, Any] | None = self.run.metrics.get("test")
        return found if found is not None and "segments" in found else None

    @property
    def goals(self) -> dict[str, Any] | None:
        """Trade-off of goals on the test split, as `rf evaluate` leaves it; None for a model without goals."""
        found: dict[str, Any] | None = self.run.metrics.get("goals")
        return found

    @property
    def scorers(self) -> list[str]:
        """Scorers with an exact ranking: the baselines, and last the model."""
        if self.test is None:
            return []
        approximate = {each["scorer"] for each in self.test["approximations"]}
        return [
            name for name in dict.fromkeys(row["scorer"] for row in self.test["results"]) if name not in approximate
        ]

    @property
    def best_epoch(self) -> int | None:
        """Epoch, from 1, of the chosen weights; None for a run that is not complete."""
        epoch = self.run.metrics.get("best_epoch")
        return None if epoch is None else int(epoch)

    @property
    def averaging(self) -> str:
        """Sentence on the weights that were evaluated: averaged or not."""
        decay = self.run.config["train"].get("ema_decay")
        if decay:
            return f"The weights that are evaluated are a running average over the steps (decay {decay:g})."
        return (
            "The weights that are evaluated are those of the last step: the running average is off (train.ema_decay=0)."
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the figures of the report as plain values for JSON, without curves and points."""
        return {
            "run": self.run.name,
            "status": str(self.run.status),
            "dataset": self.run.dataset,
            "best_epoch": self.best_epoch,
            "training_seconds": None if self.recorded is None else self.recorded.seconds,
            "validation": self.run.metrics.get("validation"),
            "test": self.test,
            "goals": self.goals,
            "model": None if self.size is None else {**asdict(self.size), "parameters": self.size.parameters},
            "users": [asdict(each) for each in self.examples],
            "changed_settings": {s.name: s.value for s in self.settings if s.changed},
            "missing": self.missing,
        }


def collect(settings: Settings, name: str | None = None, *, seed: int = 0) -> RunReport:
    """Gather the report of a run in any state.

    Args:
        settings: the workspace.
        name: name of the run; default: the one started last.
        seed: which items of a large catalog are drawn.

    Raises:
        NotFoundError: there is no such run.
    """
    registry = Registry.of(settings)
    run = fetched(registry, registry.run(name))
    report = RunReport(run=run, recorded_dataset=registry.dataset(run.dataset))
    _read_directory(report, run.path)
    _compute(report, registry, run.path, seed)
    recipe = recipe_values(run.recipe, report.dataset)
    report.settings = compare_settings(run.config, recipe)
    if recipe is None:
        report.missing["settings"] = (
            f"No recipe is named '{run.recipe}' any more, so the settings stand without a comparison."
        )
    return report


def _read_directory(report: RunReport, directory: Path) -> None:
    """Read what training left; ``metrics.json`` is in the registry too."""
    missing, run = report.missing, report.run
    report.recorded = read_curves(directory / "tensorboard")
    if report.recorded is None:
        missing["training"] = (
            f"There are no TensorBoard events in {run.name}/tensorboard: no step was logged, or they were deleted."
        )
    report.history = read_notes(directory / "history.jsonl")
    if not report.history:
        missing["validation"] = "No epoch is complete, so nothing was validated yet."
    weights = weights_file(directory / "best")
    if weights.exists():
        report.size = model_size(load_weights_file(weights, "train the run again"))
    else:
        missing["model"] = "No weights were chosen yet, so there is nothing to measure."
    if report.test is None:
        fault = (
            "has not been evaluated on the test split"
            if "test" not in run.metrics
            else "was evaluated by an older version"
        )
        missing["test"] = (
            f"The run {fault}: `rf evaluate {run.name}` does that, and then `rf report {run.name}` shows the result here."
        )


def _compute(report: RunReport, registry: Registry, directory: Path, seed: int) -> None:
    """Compute what needs the model and the dataset."""
    missing = report.missing
    try:
        report.dataset = open_run_dataset(registry, report.run)
        if not weights_file(directory / "best").exists():
            raise NotFoundError("the run has not finished its first epoch, so no weights were chosen")
        model = ModelScorer(load_run_model(report.run, report.dataset.encoder), report.dataset)
    except RfError as error:
        if report.dataset is None:
            missing["dataset"] = f"The dataset cannot be read: {error}."
        missing["map"] = missing["users"] = f"Not computed: {error}."
        return
    try:
        report.examples = example_users(model, report.dataset)
    except RfError as error:
        missing["users"] = f"Not computed: {error}."
    report.item_map = _map(model, report.dataset, seed)


def _map(model: ModelScorer, dataset: Dataset, seed: int) -> ItemMap:
    """Lay out the catalog by the model's item vectors."""
    counts = np.bincount(training_items(dataset.sequences).values, minlength=len(dataset.item_ids))
    items = dataset.items.take(dataset.current_items)
    return item_map(model.unit_vectors.cpu().numpy(), items, dataset.spec, counts, seed=seed)
