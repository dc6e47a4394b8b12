"""The workspace in which commands are tried."""

from collections.abc import Callable

import pytest

from rf_edges.disk import Disk, own_disk
from rf_edges.process import succeeds
from rf_edges.world import World


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory, write_tables: Callable[..., None]) -> World:
    """The workspace, made once; each test prepares it for a command."""
    return World(tmp_path_factory.mktemp("edges"), write_tables)


@pytest.fixture(scope="session")
def mounts(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Skip where file systems cannot be mounted."""
    place, template = (tmp_path_factory.mktemp(name) for name in ("disk", "template"))
    if not succeeds(own_disk, Disk(place, template)):
        pytest.skip("file systems cannot be mounted here, not even in a user namespace of their own")
