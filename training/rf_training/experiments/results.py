"""The result of an ablation: every arm's metrics, and how they differ from the base of its group."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rf_platform.cli.console import track
from rf_platform.dataset import Dataset
from rf_platform.errors import CorruptError
from rf_platform.failures import reading
from rf_platform.files import new_file
from rf_platform.registry import RunRecord
from rf_training.evaluation import EvaluationCases, Split, TargetRanks, rank_targets
from rf_training.evaluation.bootstrap import CONFIDENCE, Estimate, bootstrap_means, estimates
from rf_training.evaluation.sampled import METRIC_KEYS, metric_values
from rf_training.experiments.grid import Group
from rf_training.experiments.plan import Plan, changed_settings
from rf_training.experiments.runs import Cost, read_cost
from rf_training.model_scorer import ModelScorer
from rf_training.report.model_size import model_size
from rf_training.run_model import load_run_model
from rf_training.tensors import load_weights_file, weights_file
from rf_training.validation import SELECTION_METRIC

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
        weights = load_weights_file(weights_file(run.path / "best"), "train the run again")
        return Measured(
            run=run.name,
            ranks=self._ranks(run),
            parameters=model_size(weights).parameters,
            best_epoch=run.metrics.get("best_epoch"),
            cost=read_cost(run.path),
        )

    def _ranks(self, run: RunRecord) -> TargetRanks:
        path = run.path / f"ranks-{self.cases.split.label}.npz"
        weights = weights_file(run.path / "best").stat().st_mtime_ns
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


RESAMPLES = 1000
"""Bootstrap samples behind each interval."""
AMONG_COLD = "among cold"
"""The cold targets once more, ranked among the items without training events alone."""


@dataclass(frozen=True, kw_only=True)
class Score:
    """One metric of one arm."""

    value: float
    """Mean over users and seeds."""
    spread: float | None
    """Standard deviation of the seeds' means (n - 1 in the denominator); None with one seed."""
    difference: Estimate | None
    """The arm minus the group's base, paired by user and averaged over the seeds that both have, with its bootstrap interval
    over users; None for the base itself, or while the base has no run."""


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One variant, or the base, with all its seeds."""

    name: str
    base: bool
    """Whether the others of its group are compared with it."""
    settings: dict[str, Any]
    """In which settings it differs from the recipe of the ablation."""
    runs: dict[int, str]
    """By seed: the completed runs behind the figures."""
    targets: dict[str, dict[str, Score]]
    """By kind of target (``all``, and where there are cold ones ``warm``, ``cold`` and :data:`AMONG_COLD`), then by metric; seen
    items excluded."""
    parameters: int | None
    cpu_seconds: float | None
    """Processor seconds per epoch, validation included, on average over the seeds."""
    wall_seconds: float | None
    """The same on the clock."""
    best_epoch: float | None
    """Epoch that validation chose, on average over the seeds."""


@dataclass(frozen=True, kw_only=True)
class GroupResult:
    """The arms of one group."""

    name: str
    title: str
    fixed: dict[str, str]
    """Settings that all arms have beside the recipe."""
    arms: tuple[Arm, ...]


@dataclass(frozen=True, kw_only=True)
class AblationResult:
    """All groups of an ablation, as far as they are trained."""

    name: str
    dataset: str
    recipe: str
    """Recipe that the groups start from."""
    recipe_settings: dict[str, Any]
    """All its settings."""
    split: str
    seeds: tuple[int, ...]
    items: int
    """Number of items ranked for each user: the whole catalog."""
    cases: dict[str, int]
    """Number of users, one target each, by kind of target."""
    metric: str
    """Metric that the plot shows and validation chose by."""
    resamples: int
    confidence: float
    groups: tuple[GroupResult, ...]
    missing: dict[str, str]
    """By run: why it is not part of the figures."""

    @property
    def has_cold(self) -> bool:
        """Whether there are targets without any training event."""
        return "cold" in self.cases

    def to_dict(self) -> dict[str, Any]:
        """Return the result as plain values for JSON."""
        return asdict(self)


def build_result(
    plan: Plan, cases: EvaluationCases, measured: Mapping[str, Measured], missing: Mapping[str, str]
) -> AblationResult:
    """Compute the result of an ablation.

    Args:
        plan: what was to be trained.
        cases: the cases that were ranked.
        measured: by name of the cell: what is trained.
        missing: by name of the cell: why it is not.
    """
    kinds = _kinds(cases)
    return AblationResult(
        name=plan.name,
        dataset=plan.dataset,
        recipe=plan.recipe.name,
        recipe_settings={"model": asdict(plan.recipe.model), "train": asdict(plan.recipe.train)},
        split=cases.split.label,
        seeds=plan.seeds,
        items=cases.n_items,
        cases={kind: int(mask.sum()) for kind, mask in kinds.items()},
        metric=SELECTION_METRIC,
        resamples=RESAMPLES,
        confidence=CONFIDENCE,
        groups=tuple(_group(plan, group, kinds, measured) for group in plan.groups.values()),
        missing=dict(missing),
    )


def _kinds(cases: EvaluationCases) -> dict[str, npt.NDArray[np.bool_]]:
    """Return a mask of the cases of each kind of target; a kind without any is left out."""
    kinds = {"all": np.ones(len(cases), bool)}
    if cases.cold.any():
        kinds |= {"warm": ~cases.cold, "cold": cases.cold, AMONG_COLD: cases.cold}
    return {kind: mask for kind, mask in kinds.items() if mask.any()}


def _group(
    plan: Plan, group: Group, kinds: Mapping[str, npt.NDArray[np.bool_]], measured: Mapping[str, Measured]
) -> GroupResult:
    base_name, recipes = group.base(plan.recipe), group.arms(plan.recipe)
    trained = {
        name: {seed: measured[cell.name] for seed, cell in zip(plan.seeds, cells, strict=True) if cell.name in measured}
        for name, cells in plan.arm_cells(group).items()
    }
    scores = {kind: _scores(trained, base_name, kind, mask) for kind, mask in kinds.items()}
    return GroupResult(
        name=group.name,
        title=group.title,
        fixed=dict(group.fixed),
        arms=tuple(
            _arm(name, name == base_name, changed_settings(recipes[name], plan.recipe), runs, scores)
            for name, runs in trained.items()
        ),
    )


def _arm(
    name: str,
    base: bool,
    settings: dict[str, Any],
    runs: Mapping[int, Measured],
    scores: Mapping[str, Mapping[str, dict[str, Score]]],
) -> Arm:
    costs = [run.cost for run in runs.values() if run.cost is not None]
    epochs = [run.best_epoch for run in runs.values() if run.best_epoch is not None]
    return Arm(
        name=name,
        base=base,
        settings=settings,
        runs={seed: run.run for seed, run in runs.items()},
        targets={kind: by_arm[name] for kind, by_arm in scores.items() if name in by_arm},
        parameters=next((run.parameters for run in runs.values()), None),
        cpu_seconds=_mean([cost.cpu_seconds for cost in costs]),
        wall_seconds=_mean([cost.wall_seconds for cost in costs]),
        best_epoch=_mean([float(epoch) for epoch in epochs]),
    )


def _scores(
    trained: Mapping[str, Mapping[int, Measured]], base: str, kind: str, mask: npt.NDArray[np.bool_]
) -> dict[str, dict[str, Score]]:
    """Return the metrics of every arm of a group on some of the cases; all arms use the same resampled users."""
    values = {
        name: {seed: _values(run.ranks, kind)[mask] for seed, run in runs.items()}
        for name, runs in trained.items()
        if runs
    }
    paired = {
        name: np.mean([by_seed[seed] - values[base][seed] for seed in both], axis=0)
        for name, by_seed in values.items()
        if name != base and base in values and (both := [seed for seed in by_seed if seed in values[base]])
    }
    differences = {name: dict(zip(METRIC_KEYS, found, strict=True)) for name, found in _intervals(paired).items()}
    result = {}
    for name, by_seed in values.items():
        means_SM = np.array([each.mean(axis=0) for each in by_seed.values()])
        spread_M = means_SM.std(axis=0, ddof=1) if len(means_SM) > 1 else None
        result[name] = {
            metric: Score(
                value=float(means_SM[:, column].mean()),
                spread=None if spread_M is None else float(spread_M[column]),
                difference=differences[name][metric] if name in differences else None,
            )
            for column, metric in enumerate(METRIC_KEYS)
        }
    return result


def _values(ranks: TargetRanks, kind: str) -> npt.NDArray[np.float64]:
    """All metrics of each case; what other kinds of targets have in those of one kind is without meaning."""
    if kind == AMONG_COLD:
        return metric_values(np.maximum(ranks.among_cold, 1), np.maximum(ranks.n_among_cold, 1))
    return metric_values(ranks.excluded, ranks.n_excluded)


def _intervals(paired: Mapping[str, npt.NDArray[np.float64]]) -> dict[str, list[Estimate]]:
    if not paired:
        return {}
    values = np.concatenate(list(paired.values()), axis=1)
    found = estimates(values, bootstrap_means(values, resamples=RESAMPLES, seed=SEED))
    width = len(METRIC_KEYS)
    return {name: found[i * width : (i + 1) * width] for i, name in enumerate(paired)}


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None
