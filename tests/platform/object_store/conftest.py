import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from rf_platform.bundle import write_manifest
from rf_platform.object_store import Kind, ObjectStore, remote
from rf_platform.settings import Settings

SIZE = 10_000
"""Bytes of the largest file of a bundle."""


class Host:
    """A workspace, and the object store as it sees it."""

    def __init__(self, home: Path, url: str, megabytes: int = 1024) -> None:
        self.home, self.url = home, url
        self.store = ObjectStore(Settings(home=home, store_url=url, store_cache_mb=megabytes))
        self.contents = home / "fetched" / "objects"

    def write(self, name: str, seed: int = 0, size: int = SIZE) -> Path:
        """Make a bundle: a file of its own, one that all have alike, one that is empty."""
        directory = self.home / "bundles" / name
        (directory / "model").mkdir(parents=True)
        (directory / "vectors.npy").write_bytes(np.random.default_rng(seed).bytes(size))
        (directory / "model" / "config.json").write_text(json.dumps({"dim": 16}))
        (directory / "empty").write_bytes(b"")
        facts = {"run": "demo", "dataset_fingerprint": "f" * 64, "spec_hash": "5" * 64}
        write_manifest(directory, name=name, metrics={}, index={"kind": "exact"}, **facts)
        return directory

    def push(self, name: str, kind: str = "bundle") -> int:
        """Push a directory; returns the bytes that were sent."""
        return self.store.push(Kind(kind), name, self.home / f"{kind}s" / name, {}).sent_bytes

    def pull(self, name: str, kind: str = "bundle") -> Path:
        """Fetch a directory."""
        directory = self.home / f"{kind}s" / name
        self.store.pull(self.store.listing(Kind(kind), name), directory)
        return directory


@pytest.fixture
def hosts(store_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Host]:
    """Make a host with a workspace of its own: ``hosts("one")``; files come in parts of 1,000 bytes."""
    monkeypatch.setattr(remote, "PART", 1000)
    monkeypatch.setattr("rf_platform.object_store.store._MIB", 1000)
    return lambda name, **more: Host(tmp_path / name, store_url, **more)


@pytest.fixture
def one(hosts: Callable[..., Host]) -> Host:
    """A host that makes things."""
    return hosts("one")


@pytest.fixture
def two(hosts: Callable[..., Host]) -> Host:
    """Another one, that uses them."""
    return hosts("two")
