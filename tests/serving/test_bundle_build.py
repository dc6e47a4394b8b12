import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from rf_platform.bundle import read_manifest
from rf_platform.dataset import Dataset
from rf_platform.errors import CorruptError, NotFoundError, RunError, UsageError
from rf_platform.registry import Registry
from rf_platform.settings import Settings, get_settings
from rf_serving.bundle import build
from rf_serving.bundle.build import IndexOptions, build_bundle
from rf_serving.bundle.served import ServedBundle
from rf_serving.commands import index
from rf_serving.index import (
    INDEX_KINDS,
    ApproximateIndex,
    Effort,
    Found,
    HnswIndex,
    exact_search,
    recall_against_exact,
    tune,
)
from rf_training.fold_in.population import held_out_queries
from rf_training.model_scorer import ModelScorer


@pytest.fixture
def copied(home_copy: Path) -> tuple[Registry, Path]:
    settings = Settings(home=home_copy)
    return Registry.of(settings), settings.workspace.bundles


def test_a_bundle_holds_everything_that_is_served(home: Path, dataset: Dataset) -> None:
    path = home / "bundles" / "tiny-run-1"
    manifest = read_manifest(path)
    assert {"spec.json", "items.parquet", "item_tokens.npy", "vectors.npy", "metrics.json"} < set(manifest.files)
    assert {"model/config.json", "model/weights.safetensors", "encoder/genre.parquet", "encoder/numeric.json"} < set(
        manifest.files
    )
    assert (manifest.run, manifest.spec_hash) == ("tiny-run", dataset.spec.hash)
    assert manifest.dataset_fingerprint == dataset.fingerprint
    assert manifest.metrics == {"recall@20": 0.5, "coverage": None}
    assert manifest.index.kind == "exact"
    metrics = json.loads((path / "metrics.json").read_text())
    assert metrics == {"run": {"recall@20": 0.5, "coverage": None}, "index": {"kind": "exact"}}


def test_rows_of_the_index_are_items_in_order(home: Path, dataset: Dataset) -> None:
    path = home / "bundles" / "tiny-run-1"
    items = pq.read_table(path / "items.parquet")
    assert items["item_id"].to_pylist() == dataset.item_ids.tolist()
    assert items["item_attributes__title"].to_pylist() == [f"Movie {i}" for i in range(1, 61)]
    tokens, vectors = np.load(path / "item_tokens.npy"), np.load(path / "vectors.npy")
    np.testing.assert_allclose(vectors, tokens / np.linalg.norm(tokens, axis=1, keepdims=True), atol=1e-6)
    found = ServedBundle.open(path).index.search(vectors, 1)
    assert found.rows[:, 0].tolist() == list(range(60))


def test_builds_are_numbered_and_equal(copied: tuple[Registry, Path]) -> None:
    registry, directory = copied
    again = build_bundle(registry, directory)  # the newest run
    assert again.record.name == "tiny-run-2"
    assert registry.bundle("tiny-run-2").run == "tiny-run"
    first, second = (read_manifest(directory / name).files for name in ("tiny-run-1", "tiny-run-2"))
    assert first == second  # the same checksums
    assert again.total_bytes == sum(f.bytes for f in second.values())


def test_a_bundle_may_be_given_a_name_that_no_other_has(copied: tuple[Registry, Path]) -> None:
    registry, directory = copied
    named = build_bundle(registry, directory, name="winter.2024_a-1")
    assert (named.record.name, named.record.run) == ("winter.2024_a-1", "tiny-run")
    assert named.record.path == directory / "winter.2024_a-1"
    assert read_manifest(named.record.path).name == "winter.2024_a-1"
    assert build_bundle(registry, directory).record.name == "tiny-run-2"

    shutil.rmtree(directory / "tiny-run-2")
    (directory / "somebody-elses").mkdir()
    for name in ("winter.2024_a-1", "tiny-run-2", "somebody-elses"):
        # Before anything is looked up: there is no such run.
        with pytest.raises(UsageError, match=f"there is a bundle '{name}' already"):
            build_bundle(registry, directory, "no-such-run", name=name)
    for name in ("", "../out", "with space", "-x"):
        with pytest.raises(UsageError, match="cannot be the name of a bundle"):
            build_bundle(registry, directory, "no-such-run", name=name)


def test_the_command_names_the_bundle(home_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RF_HOME", str(home_copy))
    get_settings.cache_clear()
    result = CliRunner().invoke(index.app, ["build", "--name", "spring", "--json"], catch_exceptions=False)
    get_settings.cache_clear()
    assert json.loads(result.stdout)["name"] == "spring"
    assert (home_copy / "bundles" / "spring" / "manifest.json").exists()


@pytest.mark.parametrize("kind", ["hnsw", "ivf-pq"])
def test_an_approximate_index_is_measured_on_other_queries(
    copied: tuple[Registry, Path], dataset: Dataset, kind: str
) -> None:
    built = build_bundle(*copied, "tiny-run", IndexOptions(kind=kind))
    manifest = read_manifest(built.record.path)
    assert {"index.faiss"} <= set(manifest.files)
    validation = int((np.asarray(dataset.sequences.split) == 1).sum())
    described = manifest.index.model_dump()
    assert described == built.index
    measured = {key: described.pop(key) for key in ("recall@20", "recall@100", "recall_queries")}
    assert measured == {"recall@20": 1.0, "recall@100": 1.0, "recall_queries": validation // 2}
    bundle = ServedBundle.open(built.record.path)
    assert described == {"kind": kind, **bundle.index.settings}
    assert [effort["k"] for effort in described["efforts"]] == [60]  # the whole catalog
    queries_BD = held_out_queries(ModelScorer(bundle.model, dataset), dataset)[1::2]
    assert recall_against_exact(bundle.index, bundle.vectors_ND, queries_BD, [20]) == {20: measured["recall@20"]}


def test_tuning_aims_at_what_is_asked(copied: tuple[Registry, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    aims = []

    def watched(index: ApproximateIndex, vectors_ND: np.ndarray, queries_BD: np.ndarray, recall: float) -> None:
        aims.append((recall, len(queries_BD)))
        tune(index, vectors_ND, queries_BD, recall)

    monkeypatch.setattr(build, "tune", watched)
    for options in (IndexOptions(), IndexOptions(recall=0.9, min_recall=0.8), IndexOptions(min_recall=0.995)):
        build_bundle(*copied, "tiny-run", replace(options, kind="hnsw"))
    assert [aim for aim, _ in aims] == [0.99, 0.9, 0.995]


def test_an_index_that_misses_too_much_is_refused(
    copied: tuple[Registry, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Careless(HnswIndex):
        kind: ClassVar[str] = "careless"

        def search_with(self, queries_BD: np.ndarray, k: int, effort: Effort) -> Found:
            some = np.where(np.arange(self.items)[:, None] % 4, self._vectors_ND, 0)
            return exact_search(some, queries_BD, k)

    monkeypatch.setitem(INDEX_KINDS, "careless", Careless)
    registry, directory = copied
    with pytest.raises(RunError, match=r"careless index finds 0\.\d+ of the true 20 .* --min-recall=0.95"):
        build_bundle(registry, directory, "tiny-run", IndexOptions(kind="careless"))
    assert [p.name for p in directory.glob("[!.]*")] == ["tiny-run-1"]  # nothing is left behind
    assert build_bundle(registry, directory, "tiny-run", IndexOptions(kind="careless", min_recall=0.1))


def test_only_completed_runs_are_built(copied: tuple[Registry, Path]) -> None:
    registry, directory = copied
    registry.start_run("going", dataset="tiny-v1", recipe="tiny", config={}, path=directory.parent / "runs" / "going")
    with pytest.raises(UsageError, match="run 'going' is running"):
        build_bundle(registry, directory, "going")
    registry.finish_run("going", {})
    with pytest.raises(CorruptError, match=r"run 'going' lacks .*best/config.json"):
        build_bundle(registry, directory, "going")
    with pytest.raises(NotFoundError, match="no run 'other'"):
        build_bundle(registry, directory, "other")


def test_recall_is_a_share() -> None:
    with pytest.raises(UsageError, match=r"--min-recall=1.5"):
        IndexOptions(min_recall=1.5)
    with pytest.raises(UsageError, match=r"--recall=-1"):
        IndexOptions(recall=-1)
