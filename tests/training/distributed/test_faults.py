"""Two processes of `rf train`: one that is killed ends the other, the run goes on at the exact batch, and its bundle too."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from rf_platform.dataset import Dataset
from rf_platform.registry import Registry
from rf_platform.settings import Settings
from rf_serving.bundle.build import build_bundle
from rf_serving.bundle.served import ServedBundle
from rf_training.checkpoint import ROOT, last_checkpoint, load_state, load_tables
from rf_training.run import continue_run
from rf_training.trainer import INITIAL

LIMIT = 30.0
"""Seconds in which the others have to end."""
COMPARABLE = (
    "model.dropout=0",
    "model.item_id_noise=0",
    "model.feature_noise=0",
    "train.precision=float32",
    "train.optimizer=adamw",
)
"""Without what a process draws for itself, and rounds; the steps of Muon are products of lower precision."""
ITEM_ID = "embeddings.collection.embedding_bags.domain_item_id.weight"
STARTED: list[subprocess.Popen[str]] = []
OPTIONS: dict[str, Any] = {
    "model.dim": 16,
    "model.max_history": 6,
    "train.epochs": 3,
    "train.batch_size": 8,
    "train.uniform_negatives": 10,
    "train.checkpoint_steps": 1,
    "sharding.domains.item_id": "column_wise",
    "sharding.domains.genre": "table_wise",
    "sharding.column_width": 8,
}
Train = Callable[..., subprocess.Popen[str]]


@pytest.fixture(scope="module")
def train(workspace: Settings, alone: dict[str, str]) -> Train:
    """Start `rf train` in two processes, by its own launcher or by torch's: ``train("--resume", by="torchrun")``."""
    command = ["-m", "rf_platform.cli", "--home", str(workspace.home), "train"]
    launchers = {
        "rf": [*command, "--nproc", "2"],
        "torchrun": ["-m", "torch.distributed.run", "--nproc-per-node", "2", *command],
    }

    def start(*arguments: str, by: str = "rf") -> subprocess.Popen[str]:
        started = subprocess.Popen(
            [sys.executable, *launchers[by], *arguments],
            env=alone,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        STARTED.append(started)
        return started

    return start


@pytest.fixture(scope="module", autouse=True)
def nothing_is_left() -> Iterator[None]:
    """End what a test that failed has left."""
    yield
    for process in STARTED:
        with process:
            process.terminate()


def new(name: str) -> list[str]:
    """Arguments of a new run."""
    changes = [word for key, value in OPTIONS.items() for word in ("--set", f"{key}={value}")]
    return ["--name", name, "--dataset", "tiny-v1", *changes]


def ended(started: subprocess.Popen[str]) -> str:
    """Wait for a run that ends well, and return what it says."""
    _, said = started.communicate(timeout=240)
    assert started.returncode == 0, said
    return said


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


def last_weights(directory: Path, initial: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Weights that a run ended with, whichever epoch was the best; their names and shapes are those of the initial ones."""
    checkpoint = last_checkpoint(directory)
    assert checkpoint is not None
    weights: dict[str, torch.Tensor] = load_state(checkpoint)["model"]
    missing = {name: torch.empty_like(initial[name]) for name in initial.keys() - weights.keys() if "domain" in name}
    assert ITEM_ID in missing
    load_tables(checkpoint, missing)
    return weights | missing


@pytest.fixture(scope="module")
def whole(workspace: Settings, train: Train) -> Path:
    """A run of two processes that nothing happened to, started by torch's launcher."""
    said = ended(train(*new("whole"), by="torchrun"))
    assert "column_wise" in said
    assert "row-wise Adagrad" in said
    return workspace.workspace.runs / "whole"


def kill(run: subprocess.Popen[str], directory: Path, steps: range, victim: int) -> None:
    """Kill a process of a run when it has saved one of these steps; the other ends, and a person is told what to do."""
    deadline = time.monotonic() + 200
    while not any(int(p.name[5:]) in steps for p in (directory / ROOT).glob("step-*")):
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
    assert position["epoch"] < OPTIONS["train.epochs"]  # not the end: there is something to go on with


@pytest.mark.timeout(600)  # four starts of two processes, on a machine that may be busy
@pytest.mark.skipif(sys.platform != "linux", reason="finds the processes in /proc")
def test_a_killed_process_ends_the_other_and_the_run_goes_on_as_if_nothing_happened(
    whole: Path, workspace: Settings, train: Train
) -> None:
    """Rank 1 in the second epoch, rank 0 in the third, and torch's launcher goes on with what `--nproc` began."""
    directory = workspace.workspace.runs / "killed"
    # In the middle of an epoch, which has six steps, with a checkpoint after each.
    kill(train(*new("killed")), directory, range(8, 11), victim=1)
    kill(train("--resume", "--name", "killed"), directory, range(14, 17), victim=0)
    ended(train("--resume", "--name", "killed", by="torchrun"))
    assert (directory / "history.jsonl").read_text() == (whole / "history.jsonl").read_text()
    mine, theirs = (load_file(path / "best" / "weights.safetensors") for path in (directory, whole))
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


@pytest.fixture(scope="module")
def bundle(whole: Path, workspace: Settings) -> Path:
    """The bundle ``whole-1``."""
    registry = Registry.of(workspace)
    return build_bundle(registry, workspace.workspace.bundles, whole.name).record.path


def test_what_two_processes_trained_is_served_by_one(whole: Path, bundle: Path) -> None:
    """The bundle holds whole tables, and the vectors of its items are those of the weights that were kept."""
    served = ServedBundle.open(bundle)
    weights = load_file(whole / "best" / "weights.safetensors")
    table = served.model.embeddings.collection.embedding_bags["domain_item_id"].weight
    assert torch.equal(table, weights[ITEM_ID])
    found = served.index.search(served.vectors_ND[:5], 3)
    assert found.rows[:, 0].tolist() == list(range(5))


def test_two_processes_go_on_from_a_bundle_with_new_ids_as_one_does(
    bundle: Path, workspace: Settings, train: Train, newer: Dataset
) -> None:
    """The tables they share out have grown, and start with the bundle's rows."""
    registry = Registry.of(workspace)
    registry.record_dataset(
        name="tiny-v2",
        version=2,
        path=newer.path,
        fingerprint=newer.fingerprint,
        spec_hash=newer.spec.hash,
        counts=newer.manifest["counts"],
    )
    changes = [word for change in COMPARABLE for word in ("--set", change)]
    started = train("--from", bundle.name, "--dataset", "tiny-v2", "--name", "two", *changes)
    torch.set_num_threads(1)
    continue_run(workspace, bundle.name, "tiny-v2", "one", COMPARABLE)
    said = ended(started)
    assert "column_wise" in said
    one, two = (workspace.workspace.runs / name for name in ("one", "two"))
    before = load_file(bundle / "model" / "weights.safetensors")[ITEM_ID]
    initial = load_file(two / INITIAL / "weights.safetensors")
    assert len(initial[ITEM_ID]) > len(before) + 5
    assert torch.equal(initial[ITEM_ID][: len(before)], before)
    mine, theirs = (last_weights(path, initial) for path in (two, one))
    assert not torch.allclose(mine[ITEM_ID], initial[ITEM_ID], atol=1e-2)  # else there is nothing to compare
    near = torch.cat([torch.isclose(mine[name], theirs[name], atol=1e-5, rtol=1e-4).flatten() for name in theirs])
    assert near.float().mean() > 0.99
    for name, value in theirs.items():
        # AdamW makes steps of the learning rate of the few gradients that are nothing but rounding.
        torch.testing.assert_close(mine[name], value, atol=5e-3, rtol=1e-4)
