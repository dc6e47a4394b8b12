"""A run that goes on: only on the data it was started with, and only with what it needs."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from rf_platform.cli.app import app
from rf_platform.dataset import Dataset
from rf_platform.errors import CorruptError, RfError, RunError, UsageError
from rf_platform.registry import Registry
from rf_platform.settings import Settings, get_settings
from rf_training.checkpoint import last_checkpoint
from rf_training.config import Recipe, TrainConfig
from rf_training.model.config import ModelConfig
from rf_training.run import resume_run, start_run
from rf_training.trainer import Trainer

RECIPE = Recipe(
    name="tiny",
    model=ModelConfig(dim=16, max_history=6),
    train=TrainConfig(epochs=2, batch_size=16, uniform_negatives=10, learning_rate=5e-3),
)


class Stopped(BaseException):
    """The process ended here."""


class StoppedBeforeCheckpoint(Trainer):
    """Ends between noting an epoch and writing the checkpoint after it."""

    after = 1

    def _save(self) -> None:
        if self.position.epoch >= self.after:
            raise Stopped
        super()._save()


class StoppedAfterCheckpoint(Trainer):
    """Ends just after the checkpoint of the first epoch."""

    def _save(self) -> None:
        super()._save()
        raise Stopped


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def workspace(tmp_path: Path, dataset: Dataset) -> Settings:
    """A workspace with a registered copy of the tiny dataset."""
    settings = Settings(home=tmp_path / "home", threads=1)
    copy = settings.workspace.datasets / dataset.name
    shutil.copytree(dataset.path, copy)
    register(settings, Dataset.open(copy))
    return settings


def register(settings: Settings, dataset: Dataset) -> None:
    dataset.record(Registry.of(settings))


def stopped(settings: Settings, monkeypatch: pytest.MonkeyPatch, trainer: type[Trainer]) -> Path:
    with monkeypatch.context() as patch:
        patch.setattr("rf_training.run.Trainer", trainer)
        with pytest.raises(Stopped):
            start_run(settings, RECIPE, None, "r")
    return settings.workspace.runs / "r"


def epochs(directory: Path) -> list[int]:
    return [json.loads(line)["epoch"] for line in (directory / "history.jsonl").read_text().splitlines()]


def test_a_run_stopped_before_its_first_checkpoint_starts_over(
    workspace: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = stopped(workspace, monkeypatch, StoppedBeforeCheckpoint)
    assert epochs(directory) == [1]
    assert last_checkpoint(directory) is None
    resume_run(workspace, "r")
    assert epochs(directory) == [1, 2]


def test_a_changed_dataset_is_refused(workspace: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = stopped(workspace, monkeypatch, StoppedAfterCheckpoint)
    before = last_checkpoint(directory)
    assert before is not None
    (path,) = workspace.workspace.datasets.glob("*/manifest.json")
    manifest = json.loads(path.read_text())
    path.write_text(json.dumps({**manifest, "fingerprint": "0" * 64}))
    with pytest.raises(UsageError, match=rf"run 'r' .*{manifest['fingerprint'][:12]}.*000000000000.*start a new run"):
        resume_run(workspace, "r")
    assert last_checkpoint(directory) == before
    path.write_text(json.dumps(manifest))
    resume_run(workspace, "r")
    assert epochs(directory) == [1, 2]


def test_a_checkpoint_of_another_model_is_refused(workspace: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = stopped(workspace, monkeypatch, StoppedAfterCheckpoint)
    (data,) = workspace.workspace.datasets.iterdir()
    wider = Recipe(name="tiny", model=ModelConfig(dim=32, max_history=6), train=RECIPE.train)
    with pytest.raises(CorruptError, match=r"step-\d+ is of another model.*start a new run"):
        Trainer(wider, Dataset.open(data), directory).run(resume=True)


def test_a_lost_best_epoch_is_named(workspace: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = stopped(workspace, monkeypatch, StoppedAfterCheckpoint)
    shutil.rmtree(directory / "best")
    with pytest.raises(CorruptError, match=r"best is gone.*epoch 1.*new run"):
        resume_run(workspace, "r")


def test_the_remedy_for_a_loss_that_is_not_finite_is_not_to_resume(dataset: Dataset, tmp_path: Path) -> None:
    recipe = Recipe(
        name="wild", model=RECIPE.model, train=TrainConfig(epochs=2, learning_rate=1e30, uniform_negatives=10)
    )
    with pytest.raises(RunError, match=r"new run.*--set train\.learning_rate=") as caught:
        Trainer(recipe, dataset, tmp_path).run()
    assert "--resume" not in str(caught.value)


def rf(*arguments: str) -> BaseException | None:
    return CliRunner().invoke(app, list(arguments)).exception


@pytest.mark.parametrize("option", ["--recipe", "--dataset", "--set"])
def test_resume_takes_no_other_configuration(option: str) -> None:
    error = rf("train", "--resume", option, "demo")
    assert isinstance(error, UsageError)
    assert option in str(error)


def test_where_markdown_goes_is_checked_first(
    workspace: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("RF_HOME", str(workspace.home))
    get_settings.cache_clear()
    for path in (tmp_path / "nodir" / "x.md", tmp_path):
        error = rf("evaluate", "--markdown", str(path))  # there is no run: had it gone on, it would have said so
        assert isinstance(error, UsageError)
        assert str(path) in str(error)
    later = rf("evaluate", "--markdown", str(tmp_path / "x.md"))
    assert isinstance(later, RfError)
    assert "--markdown" not in str(later)
    get_settings.cache_clear()


@pytest.mark.parametrize(
    "content",
    [set(), {"notes.txt"}, {"encoder", "lineage.json"}, {"run.json", "notes.txt"}, {"run.json", "history.jsonl"}],
)
def test_a_directory_that_is_no_beginning_of_a_run_is_left_alone(workspace: Settings, content: set[str]) -> None:
    directory = workspace.workspace.runs / "r"
    directory.mkdir(parents=True)
    for name in content:
        (directory / name).write_text("mine")
    with pytest.raises(UsageError, match="there is a run 'r' already"):
        start_run(workspace, RECIPE, None, "r")
    assert {path.name for path in directory.iterdir()} == content


def test_a_name_that_links_elsewhere_is_taken(workspace: Settings, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "run.json").write_text("{}")
    workspace.workspace.runs.mkdir(parents=True)
    (workspace.workspace.runs / "r").symlink_to(tmp_path / "mine")
    with pytest.raises(UsageError, match="there is a run 'r' already"):
        start_run(workspace, RECIPE, None, "r")
    assert (tmp_path / "mine" / "run.json").exists()


def test_the_beginning_of_a_run_that_was_never_recorded_gives_its_name_back(workspace: Settings) -> None:
    directory = workspace.workspace.runs / "r"
    (directory / "encoder").mkdir(parents=True)
    (directory / "encoder" / "x").write_text("")
    (directory / "run.json").write_text("{}")
    start_run(workspace, RECIPE, None, "r")
    assert (directory / "best").exists()
    assert not (directory / "encoder").exists()
