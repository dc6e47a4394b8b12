"""A workspace with real Feast, DuckDB and SQLite, built once."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from rf_platform.features.apply import apply_definitions
from rf_platform.features.materialize import materialize
from rf_platform.settings import Settings

REPOSITORY = Path(__file__).parents[2] / "feature_repo" / "movielens"


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory, write_tables: Callable[..., None]) -> Settings:
    """Tables imported, definitions (a copy that tests may extend) applied and materialised."""
    home = tmp_path_factory.mktemp("workspace")
    shutil.copytree(REPOSITORY, home / "feature_repo", ignore=shutil.ignore_patterns("__pycache__"))
    write_tables(home / "tables")
    settings = Settings(home=home, feature_repo=home / "feature_repo")
    apply_definitions(settings)
    materialize(settings)
    return settings
