"""A dataset and a newer one of the same catalog, whose id maps have grown."""

from collections.abc import Callable
from pathlib import Path

import pytest

from rf_platform.dataset import Dataset
from rf_platform.dataset.protocols import LeaveOneOut, SplitProtocol


@pytest.fixture(scope="session")
def newer(
    tmp_path_factory: pytest.TempPathFactory,
    write_tables: Callable[..., None],
    build_by_protocol: Callable[[Path, SplitProtocol], Dataset],
) -> Dataset:
    """As ``dataset``, with half as many items and users again, and other events: frequencies are others, and so are ids."""
    home = tmp_path_factory.mktemp("newer")
    write_tables(home / "tables", users=36, items=60, seed=1)
    return build_by_protocol(home, LeaveOneOut())
