"""A run that goes on from a bundle: what it starts with, what it writes down, and what it refuses."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

import retrievalformer
from rf_platform.cli.app import app
from rf_platform.dataset import Dataset
from rf_platform.dataset.protocols import ColdItems, SplitProtocol
from rf_platform.dataset.run_dataset import ENCODER, open_run_dataset
from rf_platform.errors import CorruptError, NotFoundError, UsageError
from rf_platform.features.encode import FeatureEncoder
from rf_platform.features.lineage import LINEAGE, Lineage
from rf_platform.registry import Registry
from rf_platform.settings import Settings, get_settings
from rf_serving.bundle.build import build_bundle
from rf_training.baselines import TrainingData, compare
from rf_training.config import Recipe, TrainConfig
from rf_training.evaluation.sequences import Split
from rf_training.loading.tables import EncodedSides
from rf_training.model.config import ModelConfig
from rf_training.model.inputs import FeatureTensors
from rf_training.model.storage import load_model
from rf_training.model_scorer import ModelScorer
from rf_training.report.collect import collect
from rf_training.run import continue_run, resume_run, start_run
from rf_training.trainer import INITIAL, Trainer
from rf_training.validation import Validation
from rf_training.warm_start.start import continued_recipe

RECIPE = Recipe(
    name="tiny",
    model=ModelConfig(dim=16, max_history=6, fusion="mean"),
    train=TrainConfig(
        epochs=3, batch_size=16, uniform_negatives=10, learning_rate=5e-3, checkpoint_steps=2, ema_decay=0.5
    ),
)
STILL = ("train.learning_rate=1e-12", "train.final_learning_rate=1e-12", "train.weight_decay=0")
"""Steps too small to change a weight."""
SHARDED = ("sharding.domains.item_id=table_wise", "sharding.learning_rate=1e-12")


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def register(settings: Settings, dataset: Dataset, name: str, version: int) -> None:
    Registry.of(settings).record_dataset(
        name=name,
        version=version,
        path=dataset.path,
        fingerprint=dataset.fingerprint,
        spec_hash=dataset.spec.hash,
        counts=dataset.manifest["counts"],
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, dataset: Dataset, newer: Dataset) -> Settings:
    """A workspace with a run on the older dataset, its bundle ``first-1``, and a newer dataset."""
    torch.set_num_threads(1)
    settings = Settings(home=tmp_path_factory.mktemp("continue") / "home", threads=1)
    register(settings, dataset, "tiny-v1", 1)
    start_run(settings, RECIPE, None, "first")
    build_bundle(registry(settings), settings.workspace.bundles, "first")
    register(settings, newer, "tiny-v2", 2)
    return settings


@pytest.fixture
def workspace(trained: Settings, tmp_path: Path) -> Settings:
    """A copy for one test."""
    shutil.copytree(trained.workspace.root, tmp_path / "home")
    return Settings(home=tmp_path / "home", threads=1)


def registry(settings: Settings) -> Registry:
    return Registry.of(settings)


def vectors(model: Path, encoder: FeatureEncoder, dataset: Dataset) -> torch.Tensor:
    """Vectors of the older dataset's items."""
    loaded = load_model(model, encoder)
    return loaded.encode_items(FeatureTensors.from_encoded(encoder.encode_items(dataset.items)))


@pytest.mark.parametrize("sharding", [(), SHARDED])
def test_before_the_first_step_nothing_known_has_moved(
    workspace: Settings, dataset: Dataset, sharding: tuple[str, ...]
) -> None:
    """Without a change of weights, the model that is kept gives every known item the vector that the bundle gives it."""
    result = continue_run(workspace, "first-1", None, "second", (*STILL, *sharding))
    run = workspace.workspace.runs / "second"
    ours = open_run_dataset(registry(workspace), registry(workspace).run("second"))
    assert ours.encoder.vocabularies["item_id"].rows > dataset.encoder.vocabularies["item_id"].rows
    bundle = workspace.workspace.bundles / "first-1" / "model"
    expected = vectors(bundle, dataset.encoder, dataset)
    for made in (run / INITIAL, run / "best"):
        assert torch.equal(vectors(made, ours.encoder, dataset), expected), made
    history = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in history] == [0, 1]
    started = Validation(RECIPE, ours, run, EncodedSides.of(ours)).metrics(load_model(run / INITIAL, ours.encoder))
    assert history[0]["ndcg@20"] == started["ndcg@20"]
    assert result.best_epoch == 0
    scorer = retrievalformer.Workspace(workspace.home).scorer("second")  # reads the dataset by the run's ids, too
    assert isinstance(scorer, ModelScorer)
    assert torch.equal(scorer.vectors_ND, ModelScorer(load_model(run / "best", ours.encoder), ours).vectors_ND)


def test_it_learns_on_and_writes_down_where_its_ids_come_from(workspace: Settings, dataset: Dataset) -> None:
    result = continue_run(workspace, "first-1", "tiny-v2", "second", ("train.learning_rate=5e-3", "train.epochs=4"))
    run = workspace.workspace.runs / "second"
    assert result.best_epoch > 0
    ours = open_run_dataset(registry(workspace), registry(workspace).run("second"))
    lineage = Lineage.load(run / LINEAGE, ours.encoder)
    parent = registry(workspace).bundle("first-1")
    assert (lineage.version, lineage.dataset, lineage.dataset_fingerprint) == (2, ours.name, ours.fingerprint)
    assert (lineage.parent.bundle, lineage.parent.run, lineage.parent.version) == ("first-1", "first", 1)
    assert lineage.parent.manifest_sha256 == parent.manifest_sha256
    assert lineage.parent.encoder_hash == dataset.encoder.hash
    items = next(d for d in lineage.domains if d.domain == "item_id")
    before, after = (
        set(d.encoder.vocabularies["item_id"].values.to_pylist()) for d in (dataset, Dataset.open(ours.path))
    )
    assert (items.kept, items.new, items.vanished) == (len(before & after), len(after - before), len(before - after))
    assert items.new > 5
    assert json.loads((run / "run.json").read_text())["from"] == "first-1"


def test_a_bundle_of_it_is_served_with_its_ids_and_can_be_gone_on_from(workspace: Settings) -> None:
    continue_run(workspace, "first-1", None, "second")
    built = build_bundle(registry(workspace), workspace.workspace.bundles, "second")
    bundle = built.record.path
    ours = open_run_dataset(registry(workspace), registry(workspace).run("second"))
    encoder = FeatureEncoder.load(ours.spec, bundle / ENCODER)
    assert encoder.hash == ours.encoder.hash != Dataset.open(ours.path).encoder.hash
    assert Lineage.load(bundle / LINEAGE, encoder).version == 2
    continue_run(workspace, built.record.name, "tiny-v1", "third")
    third = Lineage.load(
        workspace.workspace.runs / "third" / LINEAGE,
        FeatureEncoder.load(ours.spec, workspace.workspace.runs / "third" / ENCODER),
    )
    assert (third.version, third.parent.version, third.parent.encoder_hash) == (3, 2, encoder.hash)
    assert all(d.new == 0 and d.rows == d.rows_before for d in third.domains)  # the older dataset has nothing new to it


def test_its_report_reads_the_dataset_with_its_ids(workspace: Settings) -> None:
    continue_run(workspace, "first-1", None, "second")
    report = collect(workspace, "second")
    assert report.missing.keys() <= {"test", "training", "settings"}
    assert report.dataset is not None
    assert report.dataset.grown_encoder is not None
    assert report.item_map is not None


def test_what_became_of_every_vocabulary_is_shown(workspace: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    continue_run(workspace, "first-1", None, "second", STILL)
    shown = capsys.readouterr().err
    assert "version 2" in shown
    for domain in ("item_id", "genre", "vanished"):
        assert domain in shown


def test_the_schedule_is_shorter_and_the_model_the_same() -> None:
    recipe = continued_recipe(RECIPE, ("model.dropout=0.4", "train.epochs=7"))
    assert recipe.model == ModelConfig(dim=16, max_history=6, fusion="mean", dropout=0.4)
    assert recipe.train.learning_rate == RECIPE.train.learning_rate
    assert recipe.train.warmup_epochs == 0.25
    assert recipe.train.epochs == 7
    assert continued_recipe(RECIPE, ()).train.epochs == 1
    assert recipe.sharding.learning_rate == 0.025  # half of row-wise Adagrad's default


@pytest.mark.parametrize(
    "change", ["model.dim=32", "model.fusion=attention", "model.share_domains=false", "model.heads=1"]
)
def test_a_change_of_what_the_weights_depend_on_is_refused(workspace: Settings, change: str) -> None:
    with pytest.raises(UsageError, match=rf"--set {change}.*without --from"):
        continue_run(workspace, "first-1", None, "second", (change,))
    assert [run.name for run in registry(workspace).runs()] == ["first"]


def test_the_name_of_a_run_and_a_damaged_bundle_are_told(workspace: Settings) -> None:
    with pytest.raises(NotFoundError, match="'first' is a run: `rf index build first`"):
        continue_run(workspace, "first", None, None)
    with pytest.raises(NotFoundError, match="no bundle 'frist-1'"):
        continue_run(workspace, "frist-1", None, None)
    weights = workspace.workspace.bundles / "first-1" / "model" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises(CorruptError, match=r"weights\.safetensors"):
        continue_run(workspace, "first-1", None, None)


class Stopped(BaseException):
    """The process ended here."""


class StoppedAtOnce(Trainer):
    """Ends before its first checkpoint."""

    def _save(self) -> None:
        raise Stopped


def test_a_run_stopped_before_its_first_checkpoint_starts_from_the_bundle_again(
    workspace: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = continue_run(workspace, "first-1", None, "whole")
    with monkeypatch.context() as patch:
        patch.setattr("rf_training.run.Trainer", StoppedAtOnce)
        with pytest.raises(Stopped):
            continue_run(workspace, "first-1", None, "stopped")
    resumed = resume_run(workspace, "stopped")
    assert resumed.validation == whole.validation
    runs = workspace.workspace.runs
    made = [load_file(runs / name / "best" / "weights.safetensors") for name in ("whole", "stopped")]
    assert all(torch.equal(made[0][name], made[1][name]) for name in made[0])


def test_without_the_weights_it_starts_from_it_does_not_start_from_random_ones(
    workspace: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("rf_training.run.Trainer", StoppedAtOnce)
        with pytest.raises(Stopped):
            continue_run(workspace, "first-1", None, "stopped")
    shutil.rmtree(workspace.workspace.runs / "stopped" / INITIAL)
    with pytest.raises(CorruptError, match="initial is gone"):
        resume_run(workspace, "stopped")
    shutil.rmtree(workspace.workspace.runs / "stopped" / ENCODER)
    with pytest.raises(CorruptError, match="id maps of its own"):
        open_run_dataset(registry(workspace), registry(workspace).run("stopped"))


def test_cold_items_that_the_bundle_knows_are_not_cold(
    workspace: Settings,
    tmp_path: Path,
    write_tables: Callable[..., None],
    build_by_protocol: Callable[[Path, SplitProtocol], Dataset],
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_tables(tmp_path / "tables")
    cold = build_by_protocol(tmp_path, ColdItems(seed=1, cold_share=0.3, validation_cold_share=0.1))
    register(workspace, cold, "tiny-v3", 3)
    continue_run(workspace, "first-1", "tiny-v3", "second", STILL)
    shown = " ".join(capsys.readouterr().err.split())
    held_out = sum(split["cold"] for split in cold.targets.values())
    assert held_out > 10
    assert (
        f"of the {held_out} cold targets of dataset '{cold.name}' are items that bundle 'first-1' was trained on"
        in shown
    )
    ours = open_run_dataset(registry(workspace), registry(workspace).run("second"))
    assert ours.trained_items.sum() > cold.trained_items.sum()
    reports = [
        compare([], ["popularity"], data=TrainingData.from_dataset(dataset), split=Split.TEST, seed=0)
        for dataset in (cold, ours)
    ]
    assert [report.cold_targets for report in reports] == [d.targets["test"]["cold"] for d in (cold, ours)]
    assert reports[1].cold_targets < reports[0].cold_targets


def test_the_command(workspace: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RF_HOME", str(workspace.home))
    monkeypatch.setenv("RF_THREADS", "1")
    get_settings.cache_clear()
    try:
        done = CliRunner().invoke(app, ["train", "--from", "first-1", "--name", "second", "--json"])
        assert done.exit_code == 0, done.output
        assert json.loads(done.stdout)["name"] == "second"
        wrong = CliRunner().invoke(app, ["train", "--from", "first-1", "--recipe", "demo"])
        assert "leave out --recipe demo" in str(wrong.exception)
    finally:
        get_settings.cache_clear()
