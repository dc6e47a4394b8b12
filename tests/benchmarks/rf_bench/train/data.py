"""Synthetic datasets for benchmarks, in a workspace of their own."""

from pathlib import Path

from rf_platform.dataset import Dataset
from rf_platform.settings import Settings


def synthetic_dataset(home: Path, *, users: int, items: int, events: int) -> Dataset:
    """Make a catalog, register its features and build a dataset of it, as `rf data synth` and the commands after it do.

    Args:
        home: an empty directory, the workspace.
        users: people.
        items: size of the catalog.
        events: interactions.
    """
    from rf_platform.data.synth import SynthOptions, synthesise
    from rf_platform.dataset.build import BuildOptions, build_dataset
    from rf_platform.features.apply import apply_definitions
    from rf_platform.features.read import read_definitions
    from rf_platform.features.store import open_store

    settings = Settings(
        home=home, feature_repo=None, online_store_url=None, feast_registry_url=None, feature_service="retrieval"
    )
    synthesise(SynthOptions(users=users, items=items, events=events), workspace=settings.workspace)
    apply_definitions(settings)
    definitions = read_definitions(open_store(settings), settings.feature_service)
    tables, datasets = settings.workspace.tables, settings.workspace.datasets
    return build_dataset(definitions, tables / "interactions.parquet", datasets, "bench", BuildOptions())[0]
