"""Callbacks: what they are told, and what they may end; own losses and samplers by name."""

import json
import struct
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from rf_platform.dataset import Dataset
from rf_platform.errors import ConfigError
from rf_training.callbacks import (
    Callback,
    EpochReport,
    MlflowTracker,
    RunReport,
    StepReport,
    StopTraining,
    WandbTracker,
    make_callbacks,
)
from rf_training.config import Recipe, TrainConfig
from rf_training.model.config import ModelConfig
from rf_training.objective import SAMPLERS, Contrast
from rf_training.objective.contrast import contrastive
from rf_training.recipes import override
from rf_training.trainer import Trainer, TrainResult

RECIPE = Recipe(
    name="tiny",
    model=ModelConfig(dim=16, max_history=6),
    train=TrainConfig(epochs=2, batch_size=8, uniform_negatives=10, cold_budget=0.0),
)
losses: list[float] = []


def doubled(contrast: Contrast) -> Tensor:
    """Twice the loss, to be told from it."""
    loss = 2 * contrastive(contrast)
    losses.append(float(loss.detach()))
    return loss


class Recorder(Callback):
    def __init__(self, stop_step: int = 0, stop_epoch: int = 0, fail_epoch: int = 0) -> None:
        self.stop_step, self.stop_epoch, self.fail_epoch = stop_step, stop_epoch, fail_epoch
        self.told: list[Any] = []
        self.values: list[Mapping[str, float]] = []

    def on_start(self, run: RunReport) -> None:
        self.told.append(("start", run.name, run.done))

    def on_step(self, step: StepReport) -> None:
        self.values.append(step.values)
        if step.step == self.stop_step:
            raise StopTraining

    def on_epoch(self, epoch: EpochReport) -> None:
        self.told.append(("epoch", epoch.epoch, epoch.step, epoch.best))
        if epoch.epoch == self.fail_epoch:
            raise RuntimeError("the tracker is gone")
        if epoch.epoch == self.stop_epoch:
            raise StopTraining

    def on_end(self, result: TrainResult | None, error: BaseException | None) -> None:
        self.told.append(("end", None if result is None else result.best_epoch, error))


def train(dataset: Dataset, directory: Path, *callbacks: Callback, recipe: Recipe = RECIPE) -> TrainResult:
    torch.set_num_threads(1)
    directory.mkdir(exist_ok=True)
    return Trainer(recipe, dataset, directory, callbacks=callbacks).run(resume=True)


def test_what_a_callback_is_told(dataset: Dataset, tmp_path: Path) -> None:
    recorder = Recorder()
    result = train(dataset, tmp_path / "run", recorder)
    steps = result.steps // 2
    start, first, second, end = recorder.told
    assert (start, end) == (("start", "run", 0), ("end", result.best_epoch, None))
    assert (first[:3], second[:3]) == (("epoch", 1, steps), ("epoch", 2, 2 * steps))
    assert first[3]
    assert second[3] == (result.best_epoch == 2)
    assert len(recorder.values) == result.steps
    assert {"loss", "gradient_norm", "learning_rate"} < set(recorder.values[0])
    assert recorder.values[-1]["loss"] < recorder.values[0]["loss"]


def test_a_callback_ends_a_training_after_a_step_or_an_epoch(dataset: Dataset, tmp_path: Path) -> None:
    by_step = Recorder(stop_step=3)
    assert train(dataset, tmp_path / "step", by_step).steps == 3
    assert by_step.told[1:] == [("epoch", 1, 3, True), ("end", 1, None)]
    by_epoch = Recorder(stop_epoch=1)
    stopped = train(dataset, tmp_path / "epoch", by_epoch)
    assert stopped.best_epoch == 1
    assert [each[0] for each in by_epoch.told] == ["start", "epoch", "end"]


def test_a_callback_that_fails_costs_no_epoch(dataset: Dataset, tmp_path: Path) -> None:
    failing = Recorder(fail_epoch=1)
    with pytest.raises(RuntimeError, match="the tracker is gone"):
        train(dataset, tmp_path / "run", failing)
    assert failing.told[-1][:2] == ("end", None)
    assert isinstance(failing.told[-1][2], RuntimeError)
    more = Recorder()
    result = train(dataset, tmp_path / "run", more)
    assert more.told[0] == ("start", "run", result.steps // 2)


def test_a_loss_of_ones_own_is_what_is_minimised(dataset: Dataset, tmp_path: Path) -> None:
    name = f"{__name__}:doubled"
    recipe = override(RECIPE, [f"train.loss={name}", "train.epochs=1"])
    plain, own = Recorder(stop_step=1), Recorder(stop_step=1)
    train(dataset, tmp_path / "plain", plain)
    train(dataset, tmp_path / "own", own, recipe=recipe)
    assert own.values[0]["loss"] == pytest.approx(2 * plain.values[0]["loss"], rel=1e-5)
    assert losses


@pytest.mark.parametrize("name", SAMPLERS)
def test_samplers_draw_as_often_as_they_say(name: str) -> None:
    events = np.array([0, 1, 16, 81])
    sampler = SAMPLERS[name](events)
    drawn = np.bincount(sampler.draw(np.random.default_rng(0), 60_000), minlength=4)
    assert drawn[0] == 0
    items = np.array([1, 2, 3])
    expected = np.broadcast_to(sampler.expected(items, 60_000), 3)
    np.testing.assert_allclose(drawn[1:], expected, rtol=0.03)
    assert expected.sum() == pytest.approx(60_000)
    if name == "popularity":
        np.testing.assert_allclose(expected / expected[0], [1, 8, 27])


def test_samplers_belong_to_the_sampled_objective(dataset: Dataset, tmp_path: Path) -> None:
    popular = replace(RECIPE, train=replace(RECIPE.train, sampler="popularity"))
    assert train(dataset, tmp_path / "run", Recorder(stop_step=1), recipe=popular).steps == 1
    with pytest.raises(ConfigError, match=r"train\.sampler=popularity needs train\.objective=sampled, which is full"):
        override(RECIPE, ["train.sampler=popularity", "train.objective=full"])
    assert override(popular, ["train.objective=full"]).train.sampler == "uniform"


def test_unknown_callbacks_are_named() -> None:
    with pytest.raises(ConfigError, match="--callback='wnadb' must be 'mlflow' or 'wandb'; or name your own"):
        make_callbacks(["wnadb"])


@pytest.mark.filterwarnings("ignore")  # of its database
def test_a_run_in_mlflow_has_settings_curves_and_the_tags_of_feast(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow = pytest.importorskip("mlflow")
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    for sitting in (1, 2):  # the second goes on with the first one's run
        recorder = Recorder(fail_epoch=1) if sitting == 1 else Recorder()
        try:
            result = train(dataset, tmp_path / "run", MlflowTracker("tests", uri), recorder)
        except RuntimeError:
            continue
    client = mlflow.MlflowClient(uri)
    (run,) = client.search_runs([client.get_experiment_by_name("tests").experiment_id])
    assert run.info.status == "FINISHED"
    assert run.data.params["model.dim"] == "16"
    assert run.data.tags["feast.feature_service"] == "test"
    assert "items:genres" in run.data.tags["feast.feature_refs"]
    curve = client.get_metric_history(run.info.run_id, "validation/ndcg_at_20")
    assert [point.step for point in curve] == [result.steps // 2, result.steps]
    assert run.data.metrics["best/ndcg_at_20"] == pytest.approx(result.validation["ndcg@20"])


@pytest.mark.filterwarnings("ignore")  # of its own parts
def test_a_run_in_wandb_is_kept_offline_and_goes_on(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wandb = pytest.importorskip("wandb", reason="needs pip install wandb")
    for name, value in {"MODE": "offline", "SILENT": "true", "ERROR_REPORTING": "false"}.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    for sitting in (1, 2):  # the second goes on with the first one's run
        recorder = Recorder(fail_epoch=1) if sitting == 1 else Recorder()
        try:
            result = train(dataset, tmp_path / "run", WandbTracker("tests", tags=["a"]), recorder)
        except RuntimeError:
            continue
    wandb.teardown()  # its process writes what is left
    kept = [offline_records(path) for path in sorted((tmp_path / "run" / "wandb").glob("offline-run-*/*.wandb"))]
    first, second = kept
    assert (first["id"], first["project"], first["exit"]) == (second["id"], "tests", 1)
    assert second["exit"] == 0
    assert second["config"]["model"]["dim"] == 16
    assert second["config"]["feature_service"] == "test"
    curve = [row for each in kept for row in each["history"] if "validation/ndcg@20" in row]
    assert {row["step"] for row in curve} == {result.steps // 2, result.steps}
    assert second["summary"]["best_epoch"] == result.best_epoch
    assert second["summary"]["best/ndcg@20"] == pytest.approx(result.validation["ndcg@20"])


def offline_records(path: Path) -> dict[str, Any]:
    """Return what a file holds that waits for `wandb sync`."""
    from wandb.proto.wandb_internal_pb2 import Record

    found = dict[str, Any](config={}, history=[], summary={})
    for data in logged(path.read_bytes()):
        record = Record.FromString(data)
        kind = record.WhichOneof("record_type")
        if kind == "run":
            found |= {"id": record.run.run_id, "project": record.run.project}
            found["config"] |= {each.key: json.loads(each.value_json) for each in record.run.config.update}
        elif kind == "history":
            found["history"].append({name_of(each): json.loads(each.value_json) for each in record.history.item})
        elif kind == "summary":
            found["summary"] |= {name_of(each): json.loads(each.value_json) for each in record.summary.update}
        elif kind == "exit":
            found["exit"] = record.exit.exit_code
    return found


def logged(data: bytes) -> Iterator[bytes]:
    """Return the records of a log in LevelDB's form: blocks of 32 KiB, chunks with checksum, length and place in the record."""
    at, record = 7, b""  # behind the file's own head
    while at + 7 <= len(data):
        if (left := 32768 - at % 32768) < 7:
            at += left
            continue
        length, place = struct.unpack_from("<HB", data, at + 4)
        record += data[at + 7 : at + 7 + length]
        at += 7 + length
        if place in (1, 4):  # whole, or its last part
            yield record
            record = b""


def name_of(item: Any) -> str:
    return str(item.key or ".".join(item.nested_key))
