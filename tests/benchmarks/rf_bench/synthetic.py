"""Synthetic datasets, each in a workspace of its own."""

from typing import TYPE_CHECKING

from rf_platform.settings import Settings

if TYPE_CHECKING:
    from rf_platform.data.synth import SynthOptions
    from rf_platform.dataset import Dataset


def synthetic_dataset(settings: Settings, options: "SynthOptions") -> "Dataset":
    """Make a catalog, register its features and build a dataset of it, as `rf data synth` and the commands after it do.

    Args:
        settings: of the workspace; what an earlier call left there is replaced.
        options: users, items and events.
    """
    from rf_platform.data.synth import synthesise
    from rf_platform.dataset.build import build_dataset
    from rf_platform.features.apply import apply_definitions
    from rf_platform.features.read import read_definitions
    from rf_platform.features.store import open_store

    synthesise(options, workspace=settings.workspace, replace=True)
    apply_definitions(settings)
    definitions = read_definitions(open_store(settings), settings.feature_service)
    interactions = settings.workspace.tables / "interactions.parquet"
    return build_dataset(definitions, interactions, settings.workspace.datasets, "synthetic")[0]
