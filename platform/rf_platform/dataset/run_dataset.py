"""A training run's dataset, read the way its model reads it."""

from pathlib import Path

from rf_platform.dataset.dataset import Dataset
from rf_platform.errors import CorruptError
from rf_platform.features.lineage import LINEAGE
from rf_platform.registry import Registry, RunRecord, fetched

ENCODER = "encoder"
"""Directory of a run with id maps of its own: one that goes on from a bundle."""


def open_dataset(registry: Registry, name: str | None = None) -> Dataset:
    """Open a dataset version, from the object store if it is not here; default: the newest.

    Raises:
        NotFoundError: there is none of that name, or none at all, or its files are gone.
        CorruptError: its files do not belong together.
    """
    return Dataset.open(fetched(registry, registry.dataset(name)).path)


def open_run_dataset(registry: Registry, run: RunRecord) -> Dataset:
    """Open the dataset that a run was trained on, with the id maps that its model knows.

    Raises:
        NotFoundError: the dataset is gone.
        CorruptError: its files do not belong together, or the run's own id maps are gone.
    """
    return open_with_ids_of(fetched(registry, run).path, fetched(registry, registry.dataset(run.dataset)).path)


def open_with_ids_of(run: Path, dataset: Path) -> Dataset:
    """Open a dataset with the id maps in a run's directory where it has any of its own.

    Raises:
        NotFoundError, CorruptError: as for :func:`open_run_dataset`.
    """
    if not (run / LINEAGE).exists():
        return Dataset.open(dataset)
    if not (run / ENCODER / "numeric.json").exists():
        raise CorruptError(
            f"run '{run.name}' has id maps of its own, and {run / ENCODER} is gone: without them the rows of its tables mean "
            f"nothing; restore them, or train it again"
        )
    return Dataset.open(dataset, run / ENCODER)
