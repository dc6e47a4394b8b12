"""Comparison of a run with the served bundle, on the same users of the run's dataset."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from rf_platform.bundle import files
from rf_platform.dataset import Dataset
from rf_platform.dataset.run_dataset import open_run_dataset
from rf_platform.errors import ConfigError
from rf_platform.features.spec import ITEM_ID_DOMAIN, FeatureSpec
from rf_platform.features.vocabulary import FIRST_ID
from rf_platform.registry import BundleRecord, Registry, RunRecord
from rf_platform.registry.deploy import bundle_spec
from rf_training.device import device_of
from rf_training.evaluation import Split, evaluate
from rf_training.evaluation.bootstrap import Estimate
from rf_training.model.storage import load_model
from rf_training.model_scorer import ModelScorer
from rf_training.run_model import load_run_model

_CANDIDATE, _SERVED = "candidate", "served"


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Metrics of a run and of the served bundle on one split of the run's dataset, seen items excluded."""

    run: str
    against: str
    """The served bundle."""
    split: str
    cases: int
    """Users, each with one target."""
    candidate: dict[str, Estimate]
    served: dict[str, Estimate]
    differences: dict[str, Estimate]
    """Candidate minus served, paired by user."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "Comparison":
        """Rebuild a comparison from plain values."""
        estimates = {
            part: {name: Estimate(**each) for name, each in data[part].items()}
            for part in (_CANDIDATE, _SERVED, "differences")
        }
        return cls(**{**data, **estimates})


def compare_with_served(
    registry: Registry, run: RunRecord, served: BundleRecord, *, split: Split = Split.TEST, seed: int = 0
) -> Comparison:
    """Rank the held-out items of a run's dataset by the run's model and by that of the served bundle.

    Both read the same histories. The bundle's model reads the dataset with its own vocabularies and features, so items and values
    that came after it are unknown to it, and its items are cold where it never met them: as it serves them now.

    Raises:
        ConfigError: the bundle reads numbers of interactions that the dataset does not have.
        RfError: a file of the run, its dataset or the bundle cannot be read.
    """
    dataset = open_run_dataset(registry, run)
    candidate = ModelScorer(load_run_model(run, dataset.encoder), dataset, _CANDIDATE)
    as_served = _read_by(served, dataset)
    device = device_of(registry.run(served.run).config)
    model = load_model(served.path / files.MODEL, as_served.encoder, device)
    reference = ModelScorer(model, as_served, _SERVED, met_N=_met(served.path, as_served))
    report = evaluate(
        dataset.sequences,
        [reference, candidate],
        n_items=dataset.n_items,
        split=split,
        seed=seed,
        reference=_SERVED,
        trained=dataset.trained_items,
    )
    found = report.result(_CANDIDATE, "excluded")
    return Comparison(
        run=run.name,
        against=served.name,
        split=report.split,
        cases=report.cases,
        candidate=found.metrics,
        served=report.result(_SERVED, "excluded").metrics,
        differences=found.differences or {},
    )


def _read_by(served: BundleRecord, dataset: Dataset) -> Dataset:
    """Return a dataset as the model of a bundle reads it."""
    spec = bundle_spec(served)
    if _context_numbers(spec) != _context_numbers(dataset.spec):
        raise ConfigError(
            f"bundle '{served.name}' reads other numbers of interactions ({', '.join(_context_numbers(spec)) or 'none'}) than "
            f"{dataset.name} has ({', '.join(_context_numbers(dataset.spec)) or 'none'}), so the two cannot be compared on the "
            f"same users; compare by `rf evaluate`, then `rf index build` and `rf promote`"
        )
    return replace(Dataset.open(dataset.path, served.path / files.ENCODER), spec=spec)


def _context_numbers(spec: FeatureSpec) -> list[str]:
    return [f.name for f in spec.inputs("context") if f.kind == "numeric"]


def _met(bundle: Path, dataset: Dataset) -> npt.NDArray[np.bool_]:
    """Return which items of a dataset the bundle's training met [items]."""
    ids = dataset.encoder.vocabularies[ITEM_ID_DOMAIN]
    if ids.domain.buckets is None:
        met: npt.NDArray[np.bool_] = ids.encode(pa.array(dataset.item_ids)) >= FIRST_ID
        return met
    table = pq.read_table(bundle / files.ITEMS, columns=[dataset.spec.item.join_key])
    trained = table.filter(pa.array(np.load(bundle / files.POPULARITY) > 0))
    return np.isin(dataset.item_ids, trained.column(0).to_numpy())
