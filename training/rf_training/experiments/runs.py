"""Where the runs of an ablation's cells stand in the registry."""

from collections.abc import Mapping
from pathlib import Path

from rf_platform.registry import Registry, RunRecord
from rf_platform.settings import Settings
from rf_training.config import Recipe
from rf_training.experiments.plan import PREFIX, Cell
from rf_training.run import recipe_from_dict


class CellRuns:
    """Finds the run of a cell: the one on the cell's dataset with its settings.

    It is looked up by the settings and not by the name, so that a run trained before a setting was added to the platform is
    still that of the cell where the setting has its default.
    """

    def __init__(self, settings: Settings) -> None:
        self._registry = Registry.open(settings.platform_registry_url, root=settings.workspace.root)
        self._directory = settings.workspace.runs

    def find(self, cell: Cell) -> RunRecord | None:
        """Return the run of a cell, in whatever state; None if it was never started, or its files are gone."""
        return self.find_all({cell.name: cell}).get(cell.name)

    def find_all(self, cells: Mapping[str, Cell]) -> dict[str, RunRecord]:
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
                if run.dataset == cell.dataset
                and (recipe.model, recipe.train, recipe.sharding)
                == (cell.recipe.model, cell.recipe.train, cell.recipe.sharding)
            ]
            if same:
                found[name] = next((run for run in same if run.status == "completed"), same[-1])
        return found

    def free_name(self, cell: Cell) -> str:
        """Return the cell's name, or the first of it with a number that no run and no directory has."""
        taken = {run.name for run in self._registry.runs()}
        names = (cell.name if n == 1 else f"{cell.name}-{n}" for n in range(1, len(taken) + 3))
        return next(name for name in names if name not in taken and not (self._directory / name).exists())


def _has_files(run: RunRecord) -> bool:
    needed: Path = run.path / ("best/weights.pt" if run.status == "completed" else "run.json")
    return needed.is_file()


def _recipe(run: RunRecord) -> Recipe | None:
    """Return a run's recipe; None if it has settings that are no more."""
    try:
        return recipe_from_dict(run.config)
    except (TypeError, KeyError, ValueError):
        return None
