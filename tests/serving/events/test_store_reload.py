"""The materialisation that a server starts: that it starts, what follows if it does not, and that it ends with its server."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from rf_platform.settings import Settings
from rf_serving.events.store_reload import StoreReload

_SERVER = """
import sys, time
from rf_platform.settings import Settings
from rf_serving.events.store_reload import StoreReload
reload = StoreReload(Settings())
reload.start()
print(reload._child.pid, file=sys.stderr, flush=True)
time.sleep(600)
"""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A workspace with a table, in which nothing was applied; its registry and its online store are elsewhere."""
    settings = Settings(home=tmp_path / "home", feature_repo=tmp_path / "repo")
    settings.workspace.tables.mkdir(parents=True)
    (settings.workspace.tables / "interactions.parquet").touch()
    return settings


def test_the_first_file_of_the_folder(settings: Settings, logs: Any) -> None:
    reload, said = StoreReload(settings), len(logs.entries)
    assert not settings.workspace.feast.exists()
    reload.start()
    try:
        assert [entry["event"] for entry in logs.entries[said:]] == ["online store is loaded again"]
        end = time.monotonic() + 120
        while len(logs.entries) < said + 2:
            assert time.monotonic() < end
            reload.look()
            time.sleep(0.05)
        assert str(settings.feature_repo) in logs.entries[-1]["error"]
    finally:
        reload.close()


def test_one_that_cannot_start_has_failed_and_is_not_tried_at_once(settings: Settings, logs: Any) -> None:
    settings.workspace.feast.touch()  # no folder can be made here
    reload, said = StoreReload(settings), len(logs.entries)
    for _ in range(3):
        reload.start()
        reload.look()
    (told,) = logs.entries[said:]
    assert told["event"] == "online store cannot be loaded again"
    assert told["again_in_seconds"] > 0
    assert "rf features materialize" in told["remedy"]
    reload.close()


def test_it_ends_with_its_server(settings: Settings) -> None:
    assert settings.feature_repo
    settings.feature_repo.mkdir()
    os.mkfifo(settings.feature_repo / "feature_store.yaml")  # reading it takes for ever
    variables = {"RF_HOME": str(settings.home), "RF_FEATURE_REPO": str(settings.feature_repo)}
    server = subprocess.Popen(
        [sys.executable, "-c", _SERVER],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **variables},
    )
    assert server.stderr
    child = int(server.stderr.readline())
    try:
        time.sleep(1)
        assert works(child)
    finally:
        server.kill()
        server.wait()
        server.stderr.close()
    end = time.monotonic() + 60
    try:
        while works(child):
            assert time.monotonic() < end
            time.sleep(0.05)
    finally:
        if works(child):
            os.kill(child, signal.SIGKILL)


def works(process: int) -> bool:
    """Whether a process is there, and is not just waiting to be collected."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
