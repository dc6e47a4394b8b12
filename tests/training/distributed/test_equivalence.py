"""Two processes with a part of every batch each train what one process trains with the whole, however tables are spread.

The module is also what those processes run: ``test_equivalence.py DATASET DIRECTORY``.
"""

import math
import multiprocessing
import os
import re
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from rf_platform.dataset import Dataset
from rf_platform.errors import RunError
from rf_training.checkpoint import ROOT
from rf_training.config import Recipe, ShardingConfig, TrainConfig
from rf_training.distributed.process_group import World
from rf_training.model.config import ModelConfig
from rf_training.model.retrievalformer import RetrievalFormer
from rf_training.trainer import Trainer

# Sums in another order, and what Adam makes of them where a gradient is close to zero.
CLOSE = 2e-4

# It orthogonalises gradients in bfloat16.
MUON = 2e-3

SECONDS = 240

WINDOWS = 48
"""Of the tiny dataset, under this recipe."""
BASE = Recipe(
    name="steps",
    # Random draws of a process are its own: without them all is comparable.
    model=ModelConfig(dim=16, max_history=6, dropout=0.0, item_id_noise=0.0, feature_noise=0.0),
    # 48 windows: not every step has as many for each process.
    train=TrainConfig(
        batch_size=7, uniform_negatives=10, learning_rate=5e-3, clip_norm=0.5, ema_decay=0.5, precision="float32"
    ),
)


def sharded(kind: str) -> ShardingConfig:
    """The two largest tables of the items spread in one way."""
    return ShardingConfig(domains={"item_id": kind, "genre": kind}, column_width=8)  # type: ignore[dict-item]


def case(sharding: ShardingConfig | None = None, model: dict[str, Any] | None = None, **train: Any) -> Recipe:
    return replace(
        BASE,
        model=replace(BASE.model, **(model or {})),
        train=replace(BASE.train, **train),
        sharding=sharding or ShardingConfig(),
    )


CASES = {
    f"{kind} {objective}": case(None if kind == "data_parallel" else sharded(kind), objective=objective)
    for kind in ("data_parallel", "table_wise", "column_wise")
    for objective in ("sampled", "full")
} | {
    "penalties": case(uniformity_weight=0.1, norm_penalty=1e-3, variance_penalty=0.1),
    "one position, own positives masked": case(positions="one", mask_own_positives=True),
    "a window for one process only": case(batch_size=WINDOWS - 1),
    "attention over bags": case(model={"bag_pooling": "attention"}),
    "tables of their own": case(sharded("table_wise"), model={"share_domains": False}),
    "Muon, label smoothing": case(objective="full", optimizer="muon", label_smoothing=0.1),
}


def weights(trainer: Trainer, average: bool = False) -> dict[str, Tensor] | None:
    """The whole weights as they are now, on rank 0."""
    state = trainer.parallel.full_state(trainer.average if average else None)
    return None if state is None else {name: value.clone() for name, value in state.items()}


def steps(recipe: Recipe, dataset: Dataset, directory: Path, world: World) -> dict[str, Any] | None:
    """Take an epoch's steps; return losses, gradient norms, weights before and after and their average, on rank 0."""
    trainer = Trainer(recipe, dataset, directory, world)
    before = weights(trainer)
    taken = [trainer.step(batch) for batch in trainer.loader.epoch(0)]
    after, average = weights(trainer), weights(trainer, average=True)
    if not world.main:
        return None
    losses, norms = ([float(x) for x in column] for column in zip(*((t.loss, norm) for t, norm in taken), strict=True))
    return {"losses": losses, "norms": norms, "before": before, "after": after, "average": average}


def lookups(trainer: Trainer) -> dict[str, Tensor]:
    """What the model, wherever its tables are, makes of the first batch's items: a collective look-up."""
    trainer.model.eval()
    with torch.no_grad():
        sides = next(iter(trainer.loader.epoch(0))).sides
        return {"items": trainer.model.encode_items(sides["item"], trainer.model.embed(sides))}


def saved_run(kind: str) -> Recipe:
    return case(sharded(kind))


def restored(dataset: Dataset, directory: Path, world: World) -> dict[str, Any]:
    """Return the whole weights after loading, and after another epoch."""
    found: dict[str, Any] = {}
    for kind in ("table_wise", "column_wise"):
        trainer = Trainer(saved_run(kind), dataset, directory / kind, world)
        assert trainer._restore()
        found[f"loaded {kind}"] = weights(trainer)
        found[f"losses {kind}"] = [float(trainer.step(batch)[0].loss) for batch in trainer.loader.epoch(1)]
        found[f"after {kind}"] = weights(trainer)
    return found


def trained(dataset: Dataset, directory: Path, world: World) -> dict[str, Any]:
    """Take the steps of every case, and save runs with sharded tables after an epoch; return what became of them."""
    found: dict[str, Any] = {name: steps(recipe, dataset, directory, world) for name, recipe in CASES.items()}
    found["told"] = world.gather_plain(world.on_main(lambda: {"plain": [1, 0.1, None, True, f"é{world.rank}"]}))
    found["bytes"] = world.gather_bytes(b"abc" * world.rank)
    for kind in ("table_wise", "column_wise"):
        trainer = Trainer(saved_run(kind), dataset, directory / kind, world)
        for batch in trainer.loader.epoch(0):
            trainer.step(batch)
        trainer._save()
        found[f"saved {kind}"] = weights(trainer)
        found[f"lookups {kind}"] = gathered(world, (lookups(trainer), next(iter(trainer.loader.epoch(0)))))
        for rank in range(world.size):
            found[f"full {kind} {rank}"] = world.gather_plain(full_disk(trainer, rank))
    return found


def gathered(world: World, value: Any) -> list[Any]:
    """The values of all processes, on all of them; of any type, since this test trusts itself."""
    file = BytesIO()
    torch.save(value, file)
    return [torch.load(BytesIO(part), weights_only=False) for part in world.gather_bytes(file.getvalue())]


def full_disk(trainer: Trainer, rank: int) -> str:
    """Take a step and save it, with files that end within their first bytes on one of the processes; return how this one ends."""
    trainer.step(next(iter(trainer.loader.epoch(1))))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    if trainer.world.rank == rank:
        resource.setrlimit(resource.RLIMIT_FSIZE, (512, before[1]))
    try:
        trainer._save()
    except (RunError, SystemExit) as error:
        return f"{type(error).__name__}: {error}"
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    return "saved"


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def several(
    dataset: Dataset, tmp_path_factory: pytest.TempPathFactory, alone: dict[str, str]
) -> tuple[Path, Callable[[str], Any]]:
    """Directory of two processes, and the results by their name: what two trained, and three made of the checkpoints."""
    directory = tmp_path_factory.mktemp("several")
    command = [sys.executable, __file__, str(dataset.path), str(directory)]
    with subprocess.Popen(
        command, env=alone, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    ) as started:
        try:
            said = started.communicate(timeout=SECONDS)[0]
        finally:
            with suppress(ProcessLookupError):
                os.killpg(started.pid, signal.SIGKILL)

    def result(name: str) -> Any:
        assert (directory / name).exists(), said
        return torch.load(directory / name, weights_only=False)

    return directory, result


@pytest.fixture(scope="module")
def two(several: tuple[Path, Callable[[str], Any]]) -> tuple[Path, Any]:
    """Directory and results of two processes."""
    directory, result = several
    return directory, result("trained")


@pytest.fixture(scope="module")
def three(several: tuple[Path, Callable[[str], Any]]) -> Any:
    """What three processes make of the checkpoints of two."""
    return several[1]("restored")


@pytest.mark.parametrize("name", CASES)
def test_steps_of_two_processes_are_those_of_one(
    name: str, two: tuple[Path, Any], dataset: Dataset, tmp_path: Path
) -> None:
    """An epoch with gradient clipping: losses, gradients, weights and their average."""
    alone, shared = steps(CASES[name], dataset, tmp_path, World()), two[1][name]
    assert alone is not None
    assert len(alone["losses"]) == math.ceil(WINDOWS / CASES[name].train.batch_size)
    assert max(alone["norms"]) > 0.5  # the clipping is seen
    for what in ("before", "after", "average"):
        assert alone[what].keys() == shared[what].keys()
        for weight, value in alone[what].items():
            close = MUON if "Muon" in name else CLOSE
            torch.testing.assert_close(shared[what][weight], value, atol=close, rtol=1e-3, msg=f"{what}: {weight}")
    assert shared["losses"] == pytest.approx(alone["losses"], rel=1e-4)
    assert shared["norms"] == pytest.approx(alone["norms"], rel=1e-3)
    item_id = "embeddings.collection.embedding_bags.domain_item_id.weight"
    moved = (alone["after"][item_id] - alone["before"][item_id]).abs().amax(1)
    assert (moved[2:] > 1e-3).sum() > 20  # else there is nothing to compare


def test_processes_tell_each_other_plain_values(two: tuple[Path, Any]) -> None:
    assert two[1]["told"] == [{"plain": [1, 0.1, None, True, "é0"]}] * 2
    assert two[1]["bytes"] == [b"", b"abc"]


@pytest.mark.parametrize("kind", ["table_wise", "column_wise"])
def test_sharded_forward_equals_unsharded(kind: str, two: tuple[Path, Any], dataset: Dataset) -> None:
    """What each process looks up, in tables that neither has, is what a model with whole tables makes of the same batch."""
    plain = RetrievalFormer(saved_run(kind).model, dataset.encoder)
    plain.load_state_dict(two[1][f"saved {kind}"])
    plain.eval()
    for found, batch in two[1][f"lookups {kind}"]:
        with torch.no_grad():
            expected = plain.encode_items(batch.sides["item"], plain.embed(batch.sides))
        assert len(expected) > 10
        torch.testing.assert_close(found["items"], expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("kind", ["table_wise", "column_wise"])
def test_a_checkpoint_of_two_loads_on_one_and_on_three(
    kind: str, two: tuple[Path, Any], three: Any, dataset: Dataset
) -> None:
    """The weights are the same to the last bit, and the state of the optimisers too: the next epoch is the same."""
    directory, saved = two
    one = restored(dataset, directory, World())
    for found in (one, three):
        for name, value in saved[f"saved {kind}"].items():
            assert torch.equal(found[f"loaded {kind}"][name], value), name
    assert three[f"losses {kind}"] == pytest.approx(one[f"losses {kind}"], rel=1e-4)
    for name, value in one[f"after {kind}"].items():
        torch.testing.assert_close(three[f"after {kind}"][name], value, atol=CLOSE, rtol=1e-3, msg=name)


@pytest.mark.parametrize("kind", ["table_wise", "column_wise"])
def test_a_full_disk_of_one_process_leaves_the_earlier_checkpoint_and_says_so(
    kind: str, two: tuple[Path, Any], dataset: Dataset
) -> None:
    directory, found = two
    state, tables = found[f"full {kind} 0"], found[f"full {kind} 1"]
    for told in (state[0], *tables):
        assert re.match(r"RunError: the checkpoint of step \d+ could not be written to .*File too large", told)
        assert "step-00000007, is as it was" in told
        assert "rf train --resume" in told
    assert state[1] == "SystemExit: 1"  # the main process failed alone, before the tables, and has said why
    assert [path.name for path in (directory / kind / ROOT).iterdir()] == ["step-00000007"]
    trainer = Trainer(saved_run(kind), dataset, directory / kind)
    assert trainer._restore()
    kept = weights(trainer)
    assert kept is not None
    assert all(torch.equal(kept[name], value) for name, value in found[f"saved {kind}"].items())


def join(rank: int, size: int, port: int, work: Callable[[Dataset, Path, World], Any]) -> None:
    """Be one of several processes; rank 0 leaves the result in a file of the work's name."""
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    launched = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size, **meeting}
    os.environ.update({name: str(value) for name, value in launched.items()})
    directory = Path(sys.argv[2])
    joined = World.join()
    result = work(Dataset.open(Path(sys.argv[1])), directory, joined)
    if joined.main:
        torch.save(result, directory / work.__name__)
    joined.leave()


def fork(size: int, work: Callable[[Dataset, Path, World], Any]) -> None:
    """Do something in several processes, which need not import anything anew."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    context = multiprocessing.get_context("fork")
    started = [context.Process(target=join, args=(rank, size, port, work)) for rank in range(size)]
    for process in started:
        process.start()
    for process in started:
        process.join()


if __name__ == "__main__":
    torch.set_num_threads(1)
    fork(2, trained)
    fork(3, restored)
