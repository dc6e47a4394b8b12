"""A checkpoint is complete or not there: after a crash, on a full disk, with a damaged file."""

import json
import os
import re
import resource
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from rf_platform.errors import CorruptError, RunError
from rf_platform.interrupts import listening
from rf_training.checkpoint import COMPLETE, ROOT, last_checkpoint, load_state, save_checkpoint
from rf_training.distributed.process_group import World
from rf_training.model.config import ModelConfig
from rf_training.model.storage import save_weights


def save(directory: Path, step: int, size: int = 10) -> None:
    save_checkpoint(directory, step, {"step": step, "x": torch.full((size,), float(step))}, {})


def saved(directory: Path) -> tuple[list[str], dict[str, Any]]:
    """Names below the directory of checkpoints, and the state of the last."""
    last = last_checkpoint(directory)
    assert last is not None
    return sorted(path.name for path in (directory / ROOT).iterdir()), load_state(last)


class Waits(World):
    """A rank that waits for what another one does, and is interrupted."""

    def on_main(self, work: Callable[[], Any]) -> Any:
        self.waits = getattr(self, "waits", 0) + 1
        if self.waits == 1:  # for the state
            return None
        signal.raise_signal(signal.SIGINT)  # while the checkpoint gets its name
        pytest.fail("it went on waiting")


def test_an_interrupt_ends_the_wait_for_another_process(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), listening():
        save_checkpoint(tmp_path, 1, {}, {}, Waits(rank=1, size=2))


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


def killed(at: int, write: Callable[[], None]) -> bool:
    """Write in a process that is killed before its operation number ``at`` on the file system; False if it makes no more.

    Python tells its audit hooks of every operation: none can be forgotten here.
    """
    child = os.fork()
    if child == 0:
        left = [at]

        def count(event: str, _: Any) -> None:
            if event != "os.kill" and (event == "open" or event.startswith(("os.", "shutil."))):
                if not left[0]:
                    os.kill(os.getpid(), signal.SIGKILL)
                left[0] -= 1

        try:
            sys.addaudithook(count)
            write()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert ended in (0, -signal.SIGKILL)
    return ended != 0


@pytest.mark.parametrize("step", [2, 1], ids=["of the next step", "of the same step"])
def test_at_every_moment_there_is_a_complete_one(tmp_path: Path, step: int) -> None:
    operations = 0
    while True:
        directory = tmp_path / str(operations)
        save(directory, 1, size=10)
        went_on = killed(operations, partial(save, directory, step, size=20))
        names, state = saved(directory)
        assert (state["step"], len(state["x"])) in ((1, 10), (step, 20)), operations
        if not went_on:
            break
        save(directory, 3)
        assert saved(directory)[0] == ["step-00000003"], operations  # what was left is cleared away
        operations += 1
    assert (names, len(state["x"])) == ([f"step-{step:08}"], 20)
    assert operations > 10


def test_at_every_moment_there_are_complete_weights(tmp_path: Path) -> None:
    operations = 0
    while True:
        directory = tmp_path / str(operations)
        save_weights(directory, ModelConfig(), {"x": torch.zeros(3)})
        write = partial(save_weights, directory, ModelConfig(), {"x": torch.ones(3)})
        went_on = killed(operations, write)
        assert ModelConfig(**json.loads((directory / "config.json").read_text())) == ModelConfig()
        weights = load_file(directory / "weights.safetensors")["x"]
        assert weights.tolist() in ([0, 0, 0], [1, 1, 1]), operations
        if not went_on:
            break
        operations += 1
    assert weights.tolist() == [1, 1, 1]
    assert operations > 5


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
    with pytest.raises(CorruptError, match=r"step-00000001\S* cannot be read: .*start a new run"):
        load_state(last)
