from collections.abc import Callable
from pathlib import Path

import pytest

from rf_platform.bundle import BundleManifest, write_manifest

WriteManifest = Callable[[Path], BundleManifest]


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A small bundle with files in two levels, one of them empty, and its manifest."""
    directory = tmp_path / "demo-1"
    (directory / "model").mkdir(parents=True)
    (directory / "model" / "weights.pt").write_bytes(b"weights" * 1000)
    (directory / "vectors.npy").write_bytes(bytes(range(256)))
    (directory / "empty").write_bytes(b"")
    describe(directory)
    return directory


def describe(directory: Path, name: str = "demo-1") -> BundleManifest:
    return write_manifest(
        directory,
        name=name,
        run="demo",
        dataset_fingerprint="f" * 64,
        spec_hash="5" * 64,
        metrics={"test": {"recall@20": 0.25, "loss": float("nan")}},
        index={"kind": "flat", "metric": "ip"},
    )


@pytest.fixture(name="describe")
def describe_fixture() -> WriteManifest:
    return describe
