"""Runs of an ablation: the one of every cell, its training, and what that costs."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

from rf_platform.errors import InterruptedRunError, RfError
from rf_platform.interrupts import raise_if_received
from rf_platform.registry import Registry, RunRecord
from rf_platform.settings import Settings
from rf_training.config import Recipe
from rf_training.experiments.plan import PREFIX, Cell, Plan, run_cells
from rf_training.notes import add_note, read_notes
from rf_training.run import recipe_from_dict, resume_run, start_run
from rf_training.tensors import weights_file

COSTS = "cost.jsonl"


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Training of a run, its validation after every epoch included."""

    cpu_seconds: float
    """Processor time of the process and of those it started, per epoch."""
    wall_seconds: float
    """Time on the clock, per epoch."""


@contextmanager
def measured(directory: Path) -> Iterator[None]:
    """Measure a sitting of training in ``directory`` and note it there, however it ends.

    Epochs are counted by the lines of ``history.jsonl``. A process that is killed notes nothing, and neither its time nor its
    epochs count. A sitting that is interrupted inside an epoch counts that epoch's time and not the epoch.
    """
    epochs, cpu, wall = _epochs(directory), _cpu(), perf_counter()
    try:
        yield
    finally:
        if directory.is_dir():
            sitting = {
                "epochs": _epochs(directory) - epochs,
                "cpu_seconds": round(_cpu() - cpu, 3),
                "wall_seconds": round(perf_counter() - wall, 3),
            }
            with suppress(RfError):  # a full disk has ended the training, too, and was told
                add_note(directory / COSTS, sitting)


def read_cost(directory: Path) -> Cost | None:
    """Return what an epoch of a run cost; None if no whole epoch was measured."""
    path = directory / COSTS
    sittings = read_notes(path)
    epochs = sum(each["epochs"] for each in sittings)
    if epochs < 1:
        return None
    return Cost(
        cpu_seconds=sum(each["cpu_seconds"] for each in sittings) / epochs,
        wall_seconds=sum(each["wall_seconds"] for each in sittings) / epochs,
    )


class CellRuns:
    """Finds the run of a cell: the one on a dataset with the cell's settings.

    It is looked up by the settings and not by the name, so that a run trained before a setting was added to the platform is
    still that of the cell where the setting has its default.

    Args:
        settings: the workspace.
        dataset: name of the dataset version that the cells are trained on.
    """

    def __init__(self, settings: Settings, dataset: str) -> None:
        self._registry = Registry.of(settings)
        self._directory, self._dataset = settings.workspace.runs, dataset

    def find(self, cell: Cell[Recipe]) -> RunRecord | None:
        """Return the run of a cell, in whatever state; None if it was never started, or its files are gone."""
        return self.find_all({cell.name: cell}).get(cell.name)

    def find_all(self, cells: Mapping[str, Cell[Recipe]]) -> dict[str, RunRecord]:
        """Return the runs of the cells that have one, by the cell's name."""
        started = [
            (run, recipe)
            for run in self._registry.runs()
            if run.name.startswith(f"{PREFIX}-") and _has_files(run) and (recipe := _recipe(run)) is not None
        ]
        found = {}
        for name, cell in cells.items():
            same = [
                run
                for run, recipe in started
                if run.dataset == self._dataset
                and (recipe.model, recipe.train, recipe.sharding)
                == (cell.recipe.model, cell.recipe.train, cell.recipe.sharding)
            ]
            if same:
                found[name] = next((run for run in same if run.status == "completed"), same[-1])
        return found

    def free_name(self, cell: Cell[Recipe]) -> str:
        """Return the cell's name, or the first of it with a number that no run and no directory has."""
        taken = {run.name for run in self._registry.runs()}
        names = (cell.name if n == 1 else f"{cell.name}-{n}" for n in range(1, len(taken) + 3))
        return next(name for name in names if name not in taken and not (self._directory / name).exists())


def train_runs(settings: Settings, plan: Plan, after_each: Callable[[], None]) -> dict[str, str]:
    """Train the cells of a plan that are not trained yet; those that were begun go on from their checkpoints.

    Args:
        settings: the workspace.
        plan: what is needed.
        after_each: called after every cell, for an early table.

    Returns:
        Why cells failed, by name: one failure stops nothing else.

    Raises:
        RunError: interrupted; the message says how to go on.
    """
    runs = CellRuns(settings, plan.dataset)
    done = {cell for cell, run in runs.find_all(plan.cells).items() if run.status == "completed"}
    failed: dict[str, str] = {}
    run_cells(
        f"ablation {plan.name}",
        [cell for cell in plan.cells.values() if cell.name not in done],
        train=lambda cell: _train(settings, plan.dataset, runs, cell, failed),
        lock=lambda cell: settings.workspace.root / "ablations" / ".locks" / cell.name,
        after_each=after_each,
        interrupted=lambda left: (
            f"ablation '{plan.name}' was interrupted with {left} of {len(plan.cells)} runs to go; the same command goes on with "
            f"it, and --only-report makes the tables of what there is"
        ),
    )
    return failed


def _train(settings: Settings, dataset: str, runs: CellRuns, cell: Cell[Recipe], failed: dict[str, str]) -> None:
    """Train one cell; what another process completed meanwhile is left alone."""
    run = runs.find(cell)
    if run is not None and run.status == "completed":
        return
    name = run.name if run is not None else runs.free_name(cell)
    try:
        with measured(settings.workspace.runs / name):
            if run is not None:
                resume_run(settings, name)
            else:
                start_run(settings, cell.recipe, dataset, name, trial=True)
    except InterruptedRunError as error:
        raise KeyboardInterrupt from error
    except Exception as error:  # what one variant runs into says nothing about the others
        raise_if_received()
        failed[cell.name] = str(error) if isinstance(error, RfError) else f"{type(error).__name__}: {error}"


def _has_files(run: RunRecord) -> bool:
    needed = weights_file(run.path / "best") if run.status == "completed" else run.path / "run.json"
    return needed.is_file()


def _recipe(run: RunRecord) -> Recipe | None:
    """Return a run's recipe; None if it has settings that are no more."""
    try:
        return recipe_from_dict(run.config)
    except (TypeError, KeyError, ValueError):
        return None


def _epochs(directory: Path) -> int:
    return len(read_notes(directory / "history.jsonl"))


def _cpu() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system
