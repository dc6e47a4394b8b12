"""What a loader holds does not grow with the number of events."""

import subprocess
import sys
from pathlib import Path

import numpy as np

from rf_platform.dataset import Dataset

EVENTS_PER_USER = 200
FEW, MANY = 4_000_000, 12_000_000
PROGRAM = """
import sys
from itertools import islice
from pathlib import Path
from rf_platform.dataset import Dataset
from rf_platform.dataset.dataset import Sequences
from rf_platform.peak_memory import peak_bytes
from rf_training.config import Recipe, TrainConfig
from rf_training.loading import batches
from rf_training.model.config import ModelConfig

batches.POOL = 1 << 14  # smaller than it is, as the data is
recipe = Recipe(name="t", model=ModelConfig(max_history=50), train=TrainConfig(batch_size=256, uniform_negatives=9))
for directory in sys.argv[2:]:
    dataset = Dataset.open(Path(sys.argv[1]))
    dataset.__dict__["sequences"] = Sequences.open(Path(directory))
    loader = batches.BatchLoader(dataset, recipe)
    windows = sum(len(batch.length_B) for batch in islice(loader.epoch(0), 100))
    print(len(loader.order), windows, peak_bytes())
"""


def write_log(directory: Path, dataset: Dataset, events: int) -> None:
    """Write a log of made-up events over the dataset's items and users, two of each user held out."""
    directory.mkdir()
    rng, users = np.random.default_rng(0), events // EVENTS_PER_USER
    versions = rng.choice(np.unique(np.asarray(dataset.sequences.item_version)), events).astype(np.int32)
    user = np.repeat(np.arange(users, dtype=np.int32), EVENTS_PER_USER) % len(dataset.user_ids)
    split = np.tile(np.array([0] * (EVENTS_PER_USER - 2) + [1, 2], np.int8), users)
    arrays: dict[str, np.ndarray] = {
        "offsets": np.arange(users + 1) * EVENTS_PER_USER,
        "item": dataset.item_of_version[versions].astype(np.int32),
        "item_version": versions,
        "user_version": user,
        "context": np.zeros(events, np.int32),
        "context_numbers": np.zeros((events, dataset.sequences.context_numbers.shape[1]), np.float32),
        "timestamp": np.arange(events) * 1_000_000,
        "split": split,
    }
    for name, array in arrays.items():
        np.save(directory / f"{name}.npy", array)


def test_memory_does_not_grow_with_events(dataset: Dataset, tmp_path: Path) -> None:
    """Three times the events: a pass over all of them at once takes some 13 bytes for each, and mapped pages 29."""
    for name, events in (("few", FEW), ("many", MANY)):
        write_log(tmp_path / name, dataset, events)
    arguments = [str(dataset.path), str(tmp_path / "few"), str(tmp_path / "many")]
    done = subprocess.run([sys.executable, "-c", PROGRAM, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    few, many = ([int(n) for n in line.split()] for line in done.stdout.splitlines())
    assert many[0] == 3 * few[0]
    assert many[1] == few[1] == 100 * 256
    assert many[2] - few[2] < 8 * (MANY - FEW)
