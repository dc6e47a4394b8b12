"""Train what an ablation lacks: resumable, in any number of processes, one failure stopping nothing else."""

from collections.abc import Callable, Mapping
from pathlib import Path

from rf_platform.cli.console import Tracker, track
from rf_platform.errors import RfError, RunError
from rf_platform.settings import Settings
from rf_training.experiments.cells import claimed
from rf_training.experiments.cost import measured
from rf_training.experiments.plan import Cell
from rf_training.experiments.runs import CellRuns
from rf_training.run import resume_run, start_run


def train_cells(
    settings: Settings, name: str, cells: Mapping[str, Cell], after_each: Callable[[], None]
) -> dict[str, str]:
    """Train the cells that are not trained yet; those that were begun go on from their checkpoints.

    Args:
        settings: the workspace.
        name: name of the ablation, for the progress.
        cells: what it needs, in the order to train it.
        after_each: called after every cell, for an early table.

    Returns:
        Why cells failed, by name.

    Raises:
        RunError: interrupted; the message says how to go on.
    """
    runs = CellRuns(settings)
    done = {cell for cell, run in runs.find_all(cells).items() if run.status == "completed"}
    waiting = [cell for cell in cells.values() if cell.name not in done]
    failed: dict[str, str] = {}
    total = len(waiting)
    trained = 0
    try:
        with track(f"ablation {name}", total) as progress:
            while waiting:
                elsewhere = []
                for cell in waiting:
                    with claimed(_lock(settings, cell)) as mine:
                        if not mine:
                            elsewhere.append(cell)
                            continue
                        _train(settings, runs, cell, failed)
                    trained += 1
                    progress.advance(note=cell.name)
                    after_each()
                if len(elsewhere) == len(waiting):
                    _wait(settings, elsewhere[0], progress)
                waiting = elsewhere
    except KeyboardInterrupt:
        raise RunError(
            f"ablation '{name}' was interrupted with {total - trained} of {len(cells)} runs to go; the same command goes on "
            f"with it, and --only-report makes the tables of what there is"
        ) from None
    return failed


def _train(settings: Settings, runs: CellRuns, cell: Cell, failed: dict[str, str]) -> None:
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
                start_run(settings, cell.recipe, cell.dataset, name)
    except RfError as error:
        record = runs.find(cell)
        if record is not None and record.error == "interrupted":
            raise KeyboardInterrupt from error
        failed[cell.name] = str(error)
    except Exception as error:  # what one variant runs into says nothing about the others
        failed[cell.name] = f"{type(error).__name__}: {error}"


def _wait(settings: Settings, cell: Cell, progress: Tracker) -> None:
    progress.advance(0, note=f"waiting for another process that trains {cell.name}")
    with claimed(_lock(settings, cell), wait=True):
        pass


def _lock(settings: Settings, cell: Cell) -> Path:
    return settings.workspace.root / "ablations" / ".locks" / cell.name
