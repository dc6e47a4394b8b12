"""Build a bundle from a training run: encode the catalog, index it, publish it atomically and record it."""

import json
import shutil
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from rf_platform.bundle import check_name, files, manifest_sha256, publish, to_plain, write_manifest
from rf_platform.bundle.signature import read_private_key, sign
from rf_platform.cli.console import track
from rf_platform.dataset import Dataset
from rf_platform.dataset.run_dataset import open_run_dataset
from rf_platform.errors import CorruptError, RunError, UsageError
from rf_platform.features.compared import compared_values, filterable, marked
from rf_platform.features.lineage import LINEAGE
from rf_platform.interrupts import held
from rf_platform.locks import claimed, sole
from rf_platform.registry import BundleRecord, Registry, RunRecord, RunStatus, fetched, published
from rf_serving.bundle.reranker import write_reranker
from rf_serving.index import ApproximateIndex, VectorIndex, build_index, choose_kind, recall_against_exact, tune
from rf_serving.index.points import Points, pushed_fields
from rf_training.config import TrainConfig
from rf_training.fold_in.fitting import fold_in_of
from rf_training.fold_in.population import held_out_queries
from rf_training.model_scorer import ModelScorer
from rf_training.rerank.store import check_towers, chosen_reranker
from rf_training.run import read_metrics
from rf_training.run_model import load_run_model
from rf_training.tensors import weights_file

RECALL_AT = (20, 100)
"""Numbers of results at which recall is measured; the first is shown."""


@dataclass(frozen=True, kw_only=True)
class IndexOptions:
    """Kind of the index, and the recall that it is tuned for."""

    kind: str = "auto"
    """One of :data:`~rf_serving.index.INDEX_KINDS`, or ``auto``: see :func:`~rf_serving.index.choose_kind`."""
    recall: float = 0.99
    """Share of the true best items that the search of an approximate index is tuned to find; ``min_recall`` if that is more."""
    min_recall: float = 0.95
    """Least share of the true best items that an approximate index must find."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name in ("recall", "min_recall"):
            if not 0 <= getattr(self, name) <= 1:
                raise UsageError(f"--{name.replace('_', '-')}={getattr(self, name)} must be between 0 and 1")

    @property
    def aim(self) -> float:
        """Recall that the search is tuned for."""
        return max(self.recall, self.min_recall)


@dataclass(frozen=True, kw_only=True)
class BuiltBundle:
    """A bundle that was just built."""

    record: BundleRecord
    items: int
    index: dict[str, Any]
    """Kind, settings and, for an approximate index, its measured recall."""
    total_bytes: int
    reranker: str | None
    """Kind of its re-ranker; None without one."""


def build_bundle(
    registry: Registry,
    directory: Path,
    run: str | None = None,
    options: IndexOptions | None = None,
    *,
    reranker: bool = True,
    name: str | None = None,
) -> BuiltBundle:
    """Build the bundle of a completed run.

    Args:
        registry: where the run is found and the bundle recorded.
        directory: where bundles lie.
        run: name of the run; default: the one started last.
        options: how the vectors are indexed.
        reranker: take in the re-ranker that was chosen for the run, if there is one.
        name: of the bundle; default: ``<run>-<n>``.

    Raises:
        NotFoundError: there is no such run, or its dataset is gone.
        UsageError: the run is not completed, the name is taken or not usable, or there is no such kind of index.
        CorruptError: the run has no checkpoint, or a re-ranker that cannot be read or belongs to other towers.
        ConfigError: RF_SIGNING_KEY is no key, or RF_INDEX_URL is not set.
        IndexAwayError: the engine that is to hold the index does not answer.
        RunError: the model or the re-ranker gives numbers that are not finite, or the index misses ``min_recall``.
    """
    options = options or IndexOptions()
    if registry.signing_key is not None:
        read_private_key(registry.signing_key)  # before anything is computed
    with ExitStack() as claim:
        if name is not None:
            claim.enter_context(sole(_lock(directory / check_name("bundle", name)), f"bundle '{name}' is being built"))
            _check_new(registry, directory, name)
        record = registry.run(run)
        built = _build(registry, directory, record, options, name=name, reranker=reranker, claim=claim)
    published(registry, built.record)
    return built


def _build(
    registry: Registry,
    directory: Path,
    record: RunRecord,
    options: IndexOptions,
    *,
    name: str | None,
    reranker: bool,
    claim: ExitStack,
) -> BuiltBundle:
    if record.status is not RunStatus.COMPLETED:
        raise UsageError(
            f"run '{record.name}' is {record.status}{f' ({record.error})' if record.error else ''}; a bundle is built from a "
            f"completed run: finish it with `rf train --resume`, or name another run"
        )
    dataset = open_run_dataset(registry, fetched(registry, record))
    with track(f"bundle of {record.name}", 3) as progress:
        checkpoint = _checkpoint(record)
        scorer = ModelScorer(load_run_model(record, dataset.encoder), dataset)
        tokens_ND = scorer.history_tokens(np.arange(dataset.n_items)).cpu().numpy()
        vectors_ND = scorer.vectors_ND.cpu().numpy()
        if not np.isfinite(vectors_ND).all():
            raise RunError(f"the item tower of run '{record.name}' gives vectors that are not finite; train it again")
        progress.advance(note="items encoded")
        index = build_index(choose_kind(options.kind, len(vectors_ND)), vectors_ND, lambda: _points(dataset))
        discard = claim.enter_context(ExitStack())
        discard.callback(index.discard)
        measured = _tuned(index, vectors_ND, held_out_queries(scorer, dataset), options)
        described = {"kind": index.kind, **index.settings, **measured}
        progress.advance(note="indexed")
        metrics = read_metrics(record.path)
        chosen, kind = _reranker(record.path) if reranker else None, None
        target = directory / (name or _free_name(registry, record.name, directory, claim))
        published = listed = False
        try:
            with publish(target) as staging:
                dataset.spec.save(staging / files.SPEC)
                dataset.encoder.save(staging / files.ENCODER)
                if (record.path / LINEAGE).exists():
                    shutil.copy2(record.path / LINEAGE, staging / LINEAGE)
                shutil.copytree(
                    checkpoint, staging / files.MODEL, ignore=_only("config.json", weights_file(checkpoint).name)
                )
                pq.write_table(catalog(dataset), staging / files.ITEMS)
                np.save(staging / files.TOKENS, tokens_ND)
                np.save(staging / files.VECTORS, vectors_ND)
                np.save(staging / files.POPULARITY, dataset.training_counts.of_item)
                temperature = record.config.get("train", {}).get("temperature", TrainConfig.temperature)
                fold_in_of(scorer, dataset, temperature).save(staging / files.FOLD_IN)
                index.save(staging / files.INDEX)
                if chosen is not None:
                    kind = write_reranker(chosen, scorer.unit_vectors.cpu().numpy(), staging)
                (staging / files.METRICS).write_text(
                    json.dumps(to_plain({"run": metrics, "index": described}), indent=2) + "\n"
                )
                manifest = write_manifest(
                    staging,
                    name=target.name,
                    run=record.name,
                    dataset_fingerprint=dataset.fingerprint,
                    spec_hash=dataset.spec.hash,
                    metrics=metrics,
                    index=described,
                )
                if registry.signing_key is not None:
                    sign(staging, registry.signing_key)
            published = True
            progress.advance(note="published")
            with held():  # an interrupt comes before or after the record, so that what is listed is there
                recorded = registry.record_bundle(
                    name=target.name,
                    run=record.name,
                    path=target,
                    manifest_sha256=manifest_sha256(target),
                    spec_hash=dataset.spec.hash,
                    metrics=metrics,
                )
                listed = True
                discard.pop_all()
        except BaseException as error:
            # An interrupt may come when it has its name already; a failure before that is of what had the name.
            if not listed and (published or isinstance(error, KeyboardInterrupt)):
                with held():
                    shutil.rmtree(target, ignore_errors=True)
            raise
    return BuiltBundle(
        record=recorded, items=len(vectors_ND), index=described, total_bytes=manifest.total_bytes, reranker=kind
    )


def catalog(dataset: Dataset) -> pa.Table:
    """Return the newest state of every item in index row order: its id, and features and display fields by full name."""
    columns = [dataset.spec.item.join_key, *(f.name for f in dataset.spec.carried("item"))]
    return dataset.items.select(columns).take(dataset.current_items)


def _points(dataset: Dataset) -> Points:
    """Return the items of a dataset with what filters ask about, for a search engine."""
    items, dtypes, markers = catalog(dataset), filterable(dataset.spec), marked(dataset.spec)
    fields = pushed_fields({name: dtype for name, dtype in dtypes.items() if name in items.column_names})
    return Points(
        ids=items[dataset.spec.item.join_key].to_pylist(),
        fields=fields,
        columns={
            each.feature: compared_values(items[each.feature], each.dtype, markers=each.feature in markers)
            for each in fields
        },
    )


def _free_name(registry: Registry, run: str, directory: Path, claim: ExitStack) -> str:
    """Return the name of a run's next bundle, which is this process's for as long as ``claim`` is open."""
    while True:
        name = registry.next_bundle_name(run, directory)
        mine = claim.enter_context(
            claimed(_lock(directory / name), wait=True)
        )  # until another builder has published it
        if mine and name == registry.next_bundle_name(run, directory):
            return name


def _lock(bundle: Path) -> Path:
    return bundle.parent / ".locks" / bundle.name


def _check_new(registry: Registry, directory: Path, name: str) -> None:
    """Refuse a name before anything is computed."""
    taken = (directory / check_name("bundle", name)).exists()
    if taken or name in {bundle.name for bundle in registry.bundles()}:
        raise UsageError(
            f"there is a bundle {name!r} already, and bundles never change; choose another --name, or give none"
        )


def _tuned(
    index: VectorIndex,
    vectors_ND: npt.NDArray[np.float32],
    queries_BD: npt.NDArray[np.float32],
    options: IndexOptions,
) -> dict[str, Any]:
    """Tune an approximate index on every second query and measure its recall on the others; says nothing of an exact one."""
    if not isinstance(index, ApproximateIndex):
        return {}
    tune(index, vectors_ND, queries_BD[::2], options.aim)
    others_BD = queries_BD[1::2] if len(queries_BD) > 1 else queries_BD
    recalls = recall_against_exact(index, vectors_ND, others_BD, RECALL_AT)
    for k, recall in recalls.items():
        if recall < options.min_recall:
            raise RunError(
                f"the {index.kind} index finds {recall:.4f} of the true {k} best items on {len(others_BD)} held-out "
                f"queries, less than --min-recall={options.min_recall}; use --kind exact, or accept a lower recall"
            )
    return {**{f"recall@{k}": recall for k, recall in recalls.items()}, "recall_queries": len(others_BD)}


def _checkpoint(run: RunRecord) -> Path:
    best = run.path / "best"
    missing = [p for p in (best / "config.json", weights_file(best), run.path / "metrics.json") if not p.is_file()]
    if missing:
        raise CorruptError(f"run '{run.name}' lacks {', '.join(map(str, missing))}; train it again")
    return best


def _reranker(run: Path) -> Path | None:
    """Return the re-ranker that was chosen for a run, if it belongs to the run's towers as they are now."""
    chosen = chosen_reranker(run)
    if chosen is not None:
        check_towers(run, chosen)
    return chosen


def _only(*wanted: str) -> Any:
    return lambda _, names: set(names) - set(wanted)
