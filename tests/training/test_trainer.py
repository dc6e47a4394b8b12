"""Training: it learns, it stops with a reason, and it goes on where it was killed."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from rf_platform.dataset import Dataset
from rf_platform.errors import RunError
from rf_training.checkpoint import last_checkpoint, load_state
from rf_training.config import Recipe, TrainConfig
from rf_training.model.config import ModelConfig
from rf_training.optimizer import WarmupCosine
from rf_training.trainer import Trainer, TrainResult

RECIPE = Recipe(
    name="tiny",
    model=ModelConfig(dim=16, max_history=6, dropout=0.1),
    train=TrainConfig(
        epochs=3, batch_size=8, uniform_negatives=10, checkpoint_steps=2, learning_rate=5e-3, ema_decay=0.5
    ),
)
SCRIPT = """
import os, signal, sys
from pathlib import Path
import torch
from rf_platform.dataset import Dataset
from rf_training.trainer import Trainer
sys.path.insert(0, sys.argv[1])
from test_trainer import RECIPE

class Killed(Trainer):
    def _save(self):
        super()._save()
        if self.position.total_steps >= int(sys.argv[4]):
            os.kill(os.getpid(), signal.SIGKILL)

torch.set_num_threads(1)
Killed(RECIPE, Dataset.open(Path(sys.argv[2])), Path(sys.argv[3])).run()
"""


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def train(dataset: Dataset, directory: Path, recipe: Recipe = RECIPE, resume: bool = False) -> TrainResult:
    directory.mkdir(exist_ok=True)
    return Trainer(recipe, dataset, directory).run(resume)


def weights(directory: Path) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = load_file(directory / "best" / "weights.safetensors")
    return state


@pytest.fixture(scope="module")
def uninterrupted(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainResult, Path]:
    torch.set_num_threads(1)
    directory = tmp_path_factory.mktemp("runs") / "run"
    return train(dataset, directory), directory


def test_it_learns_whose_genre_is_whose(dataset: Dataset, tmp_path: Path) -> None:
    recipe = replace(RECIPE, train=replace(RECIPE.train, epochs=15))
    result = train(dataset, tmp_path / "run", recipe)
    assert result.validation["recall@10"] > 0.45  # a third of the events leave the genre; chance is 10 of 30


def test_what_a_run_leaves(uninterrupted: tuple[TrainResult, Path]) -> None:
    result, directory = uninterrupted
    history = [json.loads(line) for line in (directory / "history.jsonl").read_text().splitlines()]
    assert [h["epoch"] for h in history] == [1, 2, 3]
    best = max(history, key=lambda h: h["ndcg@20"])
    assert result.best_epoch == best["epoch"]
    assert result.validation["ndcg@20"] == best["ndcg@20"]
    assert list((directory / "tensorboard").glob("events*"))


@pytest.mark.parametrize("steps", [4, 7])
def test_killed_and_resumed_equals_uninterrupted(
    dataset: Dataset, uninterrupted: tuple[TrainResult, Path], tmp_path: Path, steps: int
) -> None:
    """kill -9 in mid-epoch and after an epoch; the resumed run ends with the same weights to the last bit."""
    directory = tmp_path / "run"
    directory.mkdir()
    command = [sys.executable, "-c", SCRIPT, str(Path(__file__).parent), str(dataset.path), str(directory), str(steps)]
    paths = os.pathsep.join(p for p in sys.path if p)
    killed = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True, check=False
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    checkpoint = last_checkpoint(directory)
    assert checkpoint is not None
    assert load_state(checkpoint)["position"]["total_steps"] >= steps
    result = train(dataset, directory, resume=True)
    expected, reference = uninterrupted
    assert result == expected
    assert (directory / "history.jsonl").read_text() == (reference / "history.jsonl").read_text()
    mine, theirs = weights(directory), weights(reference)
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs)


def test_same_seed_same_result_other_seed_another(
    dataset: Dataset, uninterrupted: tuple[TrainResult, Path], tmp_path: Path
) -> None:
    assert train(dataset, tmp_path / "run") == uninterrupted[0]
    other = replace(RECIPE, train=replace(RECIPE.train, seed=1))
    assert train(dataset, tmp_path / "other", other).validation != uninterrupted[0].validation


def test_a_loss_that_is_not_finite_stops_with_the_reason(dataset: Dataset, tmp_path: Path) -> None:
    recipe = replace(RECIPE, train=replace(RECIPE.train, learning_rate=1e30))
    with pytest.raises(RunError, match=r"the loss is (nan|inf) at step \d+ of epoch \d.*learning_rate"):
        train(dataset, tmp_path / "run", recipe)


def test_an_empty_validation_split_stops_with_the_reason(dataset: Dataset, tmp_path: Path) -> None:
    bare = Dataset(path=dataset.path, manifest=dataset.manifest, spec=dataset.spec)
    bare.__dict__["sequences"] = replace(dataset.sequences, split=np.zeros(len(dataset.sequences.split), np.int8))
    with pytest.raises(RunError, match="validation"):
        train(bare, tmp_path / "run")


def test_schedule() -> None:
    schedule = WarmupCosine(peak=1.0, final=0.1, warmup=4, total=12)
    rates = [schedule.at(step) for step in range(13)]
    assert rates[3] == 1.0
    assert rates[0] < rates[1] < rates[2] < rates[3]
    assert all(a >= b for a, b in pairwise(rates[3:]))
    assert abs(rates[8] - 0.55) < 1e-12
    assert abs(rates[12] - 0.1) < 1e-12
