"""What has its name outlives a crash of the machine: contents are on disk before the name, and the name before anybody is told.

A recording file system notes every fsync and every rename of the functions that promise it.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from rf_platform import staging
from rf_platform.bundle import publish, write_manifest
from rf_platform.data.event_log import EventLog, EventParts, LoggedEvent
from rf_platform.registry.journal import CatalogJournal
from rf_platform.settings import Settings
from rf_platform.staging import staged
from rf_serving.server.rpc import Role
from rf_serving.server.tokens import add_token
from rf_training.checkpoint import save_checkpoint
from rf_training.model.config import ModelConfig
from rf_training.model.storage import save_weights
from rf_training.rerank.store import publish_reranker


class Disk:
    """Notes what is on disk: of every file and directory, as it was when it was synced last."""

    def __init__(self) -> None:
        self.synced: dict[tuple[int, int], tuple[int, int]] = {}
        self.named: list[str] = []
        """Names given."""
        self.early: list[str] = []
        """Paths whose contents were not on disk when they got their name."""
        self.untold: dict[tuple[int, int], str] = {}
        """Directories in which a name was given that is not on disk yet."""

    def fsync(self, state: os.stat_result) -> None:
        self.synced[state.st_dev, state.st_ino] = (state.st_mtime_ns, state.st_size)
        self.untold.pop((state.st_dev, state.st_ino), None)

    def named_as(self, source: Path, target: Path) -> None:
        for path in (source, *source.rglob("*")):
            state = path.lstat()
            if self.synced.get((state.st_dev, state.st_ino)) != (state.st_mtime_ns, state.st_size):
                self.early.append(str(path))
        parent = target.parent.stat()
        self.named.append(target.name)
        self.untold[parent.st_dev, parent.st_ino] = str(target)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    disk, fsync = Disk(), os.fsync

    def recorded(handle: int) -> None:
        fsync(handle)
        disk.fsync(os.fstat(handle))

    def naming(give: Callable[..., Any]) -> Callable[..., Any]:
        def named(source: Any, target: Any, *rest: Any, **more: Any) -> Any:
            disk.named_as(Path(source), Path(target))
            return give(source, target, *rest, **more)

        return named

    monkeypatch.setattr(os, "fsync", recorded)
    for name in ("rename", "replace"):
        monkeypatch.setattr(os, name, naming(getattr(os, name)))
    monkeypatch.setattr(staging, "_swap", naming(staging._swap))
    return disk


def in_staging(directory: Path, *, replace: bool = False) -> None:
    with staged(directory / "target", ".writing-", replace=replace) as fresh:
        (fresh / "deep").mkdir()
        (fresh / "deep" / "file").write_text("text")


def replaced(directory: Path) -> None:
    in_staging(directory)
    in_staging(directory, replace=True)


def bundle(directory: Path) -> None:
    with publish(directory / "bundle-1") as fresh:
        (fresh / "vectors.npy").write_bytes(b"123")
        facts = {"run": "demo", "dataset_fingerprint": "f" * 64, "spec_hash": "5" * 64}
        write_manifest(fresh, name="bundle-1", metrics={}, index={"kind": "exact"}, **facts)


def events(directory: Path) -> None:
    parts = EventParts(directory)
    with parts.writing():
        for number in (1, 2):
            parts.add([LoggedEvent(sequence=number, event_id=str(number), user_id="1", item_id="2", timestamp_us=3)])


def checkpoint(directory: Path) -> None:
    for step in (1, 2, 2):  # the last one in the place of the same step
        save_checkpoint(directory, step, {"x": torch.ones(3)}, {})


def weights(directory: Path) -> None:
    for _ in range(2):
        save_weights(directory, ModelConfig(), {"x": torch.ones(3)})


def reranker(directory: Path) -> None:
    with publish_reranker(directory, "lime") as fresh:
        (fresh / "weights.pt").write_bytes(b"123")


def token(directory: Path) -> None:
    for name in ("one", "two"):
        add_token(directory / "tokens.json", name, Role.READ)


PROMISES: dict[str, tuple[Callable[[Path], None], set[str]]] = {
    "a staged directory": (in_staging, {"target"}),
    "one that is replaced": (replaced, {"target"}),
    "a bundle": (bundle, {"bundle-1"}),
    "files of the event log": (events, {"manifest.json"}),
    "a checkpoint": (checkpoint, {"step-00000001", "step-00000002"}),
    "weights": (weights, {"config.json", "weights.safetensors"}),
    "a re-ranker": (reranker, {"lime"}),
    "tokens": (token, {"tokens.json"}),
}


@pytest.mark.parametrize("swaps", [True, False], ids=["exchanged", "renamed twice"])
@pytest.mark.parametrize("promise", PROMISES)
def test_contents_are_on_disk_before_the_name_and_the_name_before_the_end(
    promise: str, swaps: bool, disk: Disk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, names = PROMISES[promise]
    if not swaps:
        monkeypatch.setattr(staging, "_swap", lambda *_: False)
    write(tmp_path)
    assert names <= set(disk.named)
    assert disk.early == []
    assert disk.untold == {}


def test_what_the_databases_acknowledge_is_on_disk(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'registry.db'}"
    journal = CatalogJournal.open(url)
    log = EventLog.open(Settings(home=tmp_path))
    for engine in (journal.engine, log.engine):
        with engine.connect() as connection:
            assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2  # FULL: synced at every commit
    journal.close()
    log.close()
