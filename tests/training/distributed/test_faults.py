"""`rf train --nproc 2`: a killed process ends the other, the run goes on at the exact batch, and what comes of it is served."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from rf_platform.registry import Registry
from rf_platform.settings import Settings
from rf_serving.bundle.build import build_bundle
from rf_serving.bundle.served import ServedBundle
from rf_training.checkpoint import ROOT, last_checkpoint, load_state

LIMIT = 30.0
"""Seconds in which the others have to end."""
STARTED: list[subprocess.Popen[str]] = []
OPTIONS = {
    "model.dim": 16,
    "model.max_history": 6,
    "train.epochs": 4,
    "train.batch_size": 8,
    "train.uniform_negatives": 10,
    "train.checkpoint_steps": 1,
    "sharding.domains.item_id": "column_wise",
    "sharding.domains.genre": "table_wise",
    "sharding.column_width": 8,
}


def train(settings: Settings, env: dict[str, str], *arguments: str) -> subprocess.Popen[str]:
    """Start `rf train` in two processes."""
    command = [sys.executable, "-m", "rf_platform.cli", "--home", str(settings.home), "train", "--nproc", "2"]
    started = subprocess.Popen(
        [*command, *arguments], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    STARTED.append(started)
    return started


@pytest.fixture(scope="module", autouse=True)
def nothing_is_left() -> Iterator[None]:
    """End what a test that failed has left."""
    yield
    for process in STARTED:
        with process:
            process.terminate()


def new(settings: Settings, env: dict[str, str], name: str) -> subprocess.Popen[str]:
    changes = [word for key, value in OPTIONS.items() for word in ("--set", f"{key}={value}")]
    return train(settings, env, "--name", name, *changes)


def children(parent: int) -> dict[int, int]:
    """Process of each rank below a launcher."""
    found: dict[int, int] = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if int((path / "stat").read_text().rsplit(")", 1)[1].split()[1]) != parent:
                continue
            rank = re.search(r"\0RANK=(\d+)\0", (path / "environ").read_text())
        except (OSError, IndexError):
            continue
        if rank:
            found[int(rank[1])] = int(path.name)
    return found


@pytest.fixture(scope="module")
def whole(workspace: Settings, alone: dict[str, str]) -> Path:
    """A run of two processes that nothing happened to."""
    run = new(workspace, alone, "whole")
    _, said = run.communicate(timeout=240)
    assert run.returncode == 0, said
    assert "column_wise" in said
    assert "row-wise Adagrad" in said
    return workspace.workspace.runs / "whole"


@pytest.mark.timeout(600)  # three starts of two processes, on a machine that may be busy
@pytest.mark.skipif(sys.platform != "linux", reason="finds the processes in /proc")
@pytest.mark.parametrize("victim", [1])
def test_a_killed_process_ends_the_other_and_the_run_goes_on_as_if_nothing_happened(
    whole: Path, workspace: Settings, alone: dict[str, str], victim: int
) -> None:
    directory = workspace.workspace.runs / "killed"
    run = new(workspace, alone, "killed")
    deadline = time.monotonic() + 200
    # The second epoch, in the middle: an epoch has six steps, with a checkpoint after each.
    while not any(int(p.name[5:]) in range(8, 12) for p in (directory / ROOT).glob("step-*")):
        assert run.poll() is None, run.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.005)
    processes = children(run.pid)
    assert set(processes) == {0, 1}
    os.kill(processes[victim], signal.SIGKILL)
    killed = time.monotonic()
    _, said = run.communicate(timeout=60)
    took = time.monotonic() - killed
    assert took < LIMIT
    assert run.returncode == 1
    assert f"process {victim} of 2 was ended by SIGKILL" in said
    assert "rf train --resume" in said
    assert not children(run.pid)
    assert not Path(f"/proc/{processes[1 - victim]}").exists()

    checkpoint = last_checkpoint(directory)
    assert checkpoint is not None
    position = load_state(checkpoint)["position"]
    assert position["epoch"] in (1, 2, 3)  # not the end: there is something to go on with
    again = train(workspace, alone, "--resume", "--name", "killed")
    _, said = again.communicate(timeout=240)
    assert again.returncode == 0, said
    assert (directory / "history.jsonl").read_text() == (whole / "history.jsonl").read_text()
    mine, theirs = (torch.load(path / "best" / "weights.pt", weights_only=True) for path in (directory, whole))
    for name, value in theirs.items():
        assert torch.equal(mine[name], value), name


def test_the_plan_is_stored_with_the_run(whole: Path) -> None:
    plan = json.loads((whole / "sharding.json").read_text())
    assert (plan["processes"], plan["device"]) == (2, "cpu")
    tables = {t["table"]: t for t in plan["tables"]}
    assert tables["item_id"]["sharding"] == "column_wise"
    assert tables["item_id"]["ranks"] == [0, 1]
    assert tables["item_id"]["optimizer"] == "row-wise Adagrad"
    assert tables["genre"]["sharding"] == "table_wise"
    assert len(tables["genre"]["ranks"]) == 1
    assert tables["gender"] == {
        "table": "gender",
        "rows": 4,
        "dim": 16,
        "sharding": "data_parallel",
        "kernel": "dense",
        "optimizer": "AdamW",
        "ranks": [0, 1],
        "weight_bytes": 4 * 16 * 4,
        "state_bytes": 3 * 4 * 16 * 4,
    }


def test_what_two_processes_trained_is_served_by_one(whole: Path, workspace: Settings) -> None:
    """The bundle holds whole tables, and the vectors of its items are those of the weights that were kept."""
    registry = Registry.open(workspace.platform_registry_url, root=workspace.workspace.root)
    built = build_bundle(registry, workspace.workspace.bundles, "whole")
    served = ServedBundle.open(built.record.path)
    weights = torch.load(whole / "best" / "weights.pt", weights_only=True)
    table = served.model.embeddings.collection.embedding_bags["domain_item_id"].weight
    assert torch.equal(table, weights["embeddings.collection.embedding_bags.domain_item_id.weight"])
    found = served.index.search(served.vectors_ND[:5], 3)
    assert found.rows[:, 0].tolist() == list(range(5))
