"""A checkpoint is complete or not there: after a crash, on a full disk, with a damaged file."""

import os
import re
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from rf_platform.errors import CorruptError, RunError
from rf_training.checkpoint import COMPLETE, ROOT, last_checkpoint, load_state, save_checkpoint

KILLED = """
import os, signal, sys, torch
from pathlib import Path
import rf_training.checkpoint as checkpoint
checkpoint._commit = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
checkpoint.save_checkpoint(Path(sys.argv[1]), 9, {"x": torch.ones(1000)}, {})
"""


def save(directory: Path, step: int, size: int = 10) -> None:
    save_checkpoint(directory, step, {"step": step, "x": torch.full((size,), float(step))}, {})


def saved(directory: Path) -> tuple[list[str], dict[str, Any]]:
    """Names below the directory of checkpoints, and the state of the last."""
    last = last_checkpoint(directory)
    assert last is not None
    return sorted(path.name for path in (directory / ROOT).iterdir()), load_state(last)


def test_the_new_one_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    assert last_checkpoint(tmp_path) is None
    for step in (9, 100):
        save(tmp_path, step)
    names, state = saved(tmp_path)
    assert names == ["step-00000100"]
    assert state["step"] == 100


def test_what_cannot_be_written_leaves_the_earlier_one(tmp_path: Path) -> None:
    save(tmp_path, 1)
    with pytest.raises(Exception, match="pickle"):
        save_checkpoint(tmp_path, 2, {"unwritable": lambda: None}, {})
    names, state = saved(tmp_path)
    assert (names, state["step"]) == (["step-00000001"], 1)


def test_one_that_was_being_written_at_a_crash_is_not_chosen(tmp_path: Path) -> None:
    save(tmp_path, 1)
    paths = os.pathsep.join(p for p in sys.path if p)
    command = [sys.executable, "-c", KILLED, str(tmp_path)]
    killed = subprocess.run(command, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    names, state = saved(tmp_path)
    assert len(names) == 2  # what it left is there, and not taken for a checkpoint
    assert state["step"] == 1
    save(tmp_path, 2)
    assert saved(tmp_path)[0] == ["step-00000002"]


def test_one_without_its_mark_is_not_chosen(tmp_path: Path) -> None:
    save(tmp_path, 1)
    half = tmp_path / ROOT / "step-00000002"
    half.mkdir()
    (half / "state.pt").write_bytes(b"half")
    assert saved(tmp_path)[1]["step"] == 1


@pytest.fixture
def limited_files() -> Iterator[None]:
    """No file may grow beyond 64 KiB: a write fails in the middle, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 512 KiB."""
    path = tmp_path / "disk"
    path.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(path)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting a small disk needs root")
    yield path
    subprocess.run(["umount", str(path)], check=True)


def refused(directory: Path) -> None:
    save(directory, 1)
    with pytest.raises(RunError) as caught:
        save(directory, 2, size=1 << 18)  # 1 MiB
    message = str(caught.value)
    assert re.search(r"checkpoint of step 2 could not be written to .*checkpoints", message)
    assert "step-00000001, is as it was" in message
    assert "rf train --resume" in message
    names, state = saved(directory)
    assert (names, state["step"]) == (["step-00000001"], 1)
    torch.testing.assert_close(state["x"], torch.ones(10))


@pytest.mark.usefixtures("limited_files")
def test_a_write_that_fails_in_the_middle_leaves_the_earlier_one_and_says_so(tmp_path: Path) -> None:
    refused(tmp_path)


def test_a_full_disk_leaves_the_earlier_one_and_says_so(small_disk: Path) -> None:
    refused(small_disk)


@pytest.mark.parametrize("damage", ["state.pt", COMPLETE])
def test_a_damaged_one_is_named(tmp_path: Path, damage: str) -> None:
    save(tmp_path, 1)
    last = last_checkpoint(tmp_path)
    assert last is not None
    path = last / damage
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(CorruptError, match=r"step-00000001 cannot be read .*start a new run"):
        load_state(last)
