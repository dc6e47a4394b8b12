"""Measurements of a trained cell: the rank of every held-out item, the size of the model, the cost of its training."""

from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from rf_platform.cli.console import track
from rf_platform.dataset import Dataset
from rf_platform.errors import CorruptError
from rf_platform.failures import reading
from rf_platform.files import new_file
from rf_platform.registry import RunRecord
from rf_training.evaluation import EvaluationCases, Split, TargetRanks, rank_targets
from rf_training.experiments.runs import Cost, read_cost
from rf_training.model_scorer import ModelScorer
from rf_training.report.model_size import model_size
from rf_training.run_model import load_run_model
from rf_training.tensors import load_tensors

SEED = 0
"""Seed of ties and intervals: the default of `rf evaluate`, for the same figures."""

_RANKS = tuple(field.name for field in fields(TargetRanks))


@dataclass(frozen=True, kw_only=True, eq=False)
class Measured:
    """One run as an ablation sees it."""

    run: str
    ranks: TargetRanks
    """Of the target of every case."""
    parameters: int
    """Number of parameters of the model."""
    best_epoch: int | None
    """Epoch, from 1, of the weights chosen on the validation split."""
    cost: Cost | None


class Measurements:
    """Measures runs on one split of a dataset; ranks are kept beside each run, since making them takes a pass over all users."""

    def __init__(self, dataset: Dataset, split: Split) -> None:
        self._dataset = dataset
        self.cases = EvaluationCases.from_sequences(dataset.sequences, n_items=len(dataset.item_ids), split=split)

    def measure(self, run: RunRecord) -> Measured:
        """Measure a completed run.

        Raises:
            CorruptError: its weights are damaged.
        """
        weights = load_tensors(run.path / "best" / "weights.pt", "train the run again")
        return Measured(
            run=run.name,
            ranks=self._ranks(run),
            parameters=model_size(weights).parameters,
            best_epoch=run.metrics.get("best_epoch"),
            cost=read_cost(run.path),
        )

    def _ranks(self, run: RunRecord) -> TargetRanks:
        path = run.path / f"ranks-{self.cases.split.label}.npz"
        weights = (run.path / "best" / "weights.pt").stat().st_mtime_ns
        if (kept := self._kept(path, weights)) is not None:
            return kept
        scorer = ModelScorer(load_run_model(run, self._dataset.encoder), self._dataset)
        tie_seed = np.random.SeedSequence(SEED).spawn(1)[0]  # the one that `evaluate` draws them with
        with track(f"ranking {run.name}", len(self.cases)) as tracker:
            ranks = rank_targets(scorer, self.cases, seed=tie_seed, progress=tracker)
        arrays = {name: getattr(ranks, name) for name in _RANKS}
        with new_file(path) as part, part.open("wb") as file:
            np.savez_compressed(file, weights=np.array(weights), targets=self.cases.targets, **arrays)
        return ranks

    def _kept(self, path: Path, weights: int) -> TargetRanks | None:
        """Return the ranks in a file; None if there are none of these weights and these targets."""
        if not path.exists():
            return None
        with suppress(CorruptError), reading(path), np.load(path) as kept:  # what is damaged is made anew
            if set(kept.files) != {*_RANKS, "weights", "targets"} or int(kept["weights"]) != weights:
                return None
            if not np.array_equal(kept["targets"], self.cases.targets):
                return None
            return TargetRanks(**{name: kept[name] for name in _RANKS})
        return None
