from pathlib import Path

import pytest

from rf_serving.bundle.served import ServedBundle


@pytest.fixture(scope="session")
def tiny(home: Path) -> ServedBundle:
    """The bundle of 60 films."""
    return ServedBundle.open(home / "bundles" / "tiny-run-1")
