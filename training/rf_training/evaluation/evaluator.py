"""Evaluation from the event sequences to the report; the ranking as a server returns it leaves the seen set out whole."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rf_platform.cli.console import track
from rf_training.evaluation.approximation import approximations
from rf_training.evaluation.cases import EvaluationCases
from rf_training.evaluation.metrics import CUTOFFS
from rf_training.evaluation.ranking import TargetRanks, rank_targets
from rf_training.evaluation.reach import TOP, RecordedTop, catalog_reach
from rf_training.evaluation.report import EvaluationReport
from rf_training.evaluation.result import ScorerResult
from rf_training.evaluation.sampled import Key, Sampled, metric_values
from rf_training.evaluation.scorer import Scorer
from rf_training.evaluation.segments import popularity_bands, segments
from rf_training.evaluation.sequences import Sequences, Split, training_items
from rf_training.evaluation.target_kinds import target_kinds
from rf_training.evaluation.warm_cold import warm_cold
from rf_training.targets.event_types import EventTypes
from rf_training.targets.weights import TargetWeights


@dataclass(frozen=True, kw_only=True)
class Served:
    """A scorer that finds what a server finds, and the one it is compared with."""

    scorer: Scorer
    """Reads as much of a history as the online store keeps, and scores what the served index finds."""
    exact: str
    """Name of the scorer that ranks the whole catalog with the whole history."""
    evaluated: bool = False
    """Whether the scorer is itself one of those evaluated, so that its ranks are known."""


def served_values(ranks: TargetRanks, cases: EvaluationCases) -> npt.NDArray[np.float64]:
    """All metrics of each case, ``[n_cases, n_metrics]``, where an answer never has an item of the seen set.

    The target of a case may be such an item, or one that is not recommendable: the evaluation keeps it in the ranking, a server
    does not, and no list has it.

    Args:
        ranks: of the scorer that finds what a server finds.
        cases: the cases, which know the seen sets.
    """
    nowhere, never = max(cases.n_items, *CUTOFFS) + 1, cases.seen_before | cases.hidden_target
    rank = np.where(never, nowhere, ranks.excluded)
    return metric_values(rank, np.where(never, nowhere, ranks.n_excluded))


RESAMPLES = 1000
"""Bootstrap samples behind each interval."""


def evaluate(
    sequences: Sequences,
    scorers: Sequence[Scorer],
    *,
    n_items: int,
    split: Split,
    seed: int,
    reference: str | None = None,
    exact_of: Mapping[str, str] | None = None,
    served: Served | None = None,
    resamples: int = RESAMPLES,
    trained: npt.NDArray[np.bool_] | None = None,
    types: EventTypes | None = None,
    weights: TargetWeights | None = None,
) -> EvaluationReport:
    """Rank the full catalog for every held-out event with every scorer and report the metrics (rows R16, R17).

    All scorers see the same cases, the same random order of ties and the same resampled users, so their differences are
    paired. Progress goes to standard error.

    Args:
        sequences: Events of the dataset version, such as ``Dataset.sequences``.
        scorers: What to evaluate, already fitted; the order is that of the report.
        n_items: Size of the catalog.
        split: Validation, to choose a model; test, once, to report it.
        seed: Seed of ties and resampling.
        reference: Name of the scorer that differences are taken against.
        exact_of: For scorers that rank what an approximate index finds, by name: the scorer that ranks the whole catalog
            with the same vectors.
        served: What a server would return, for the line "as served".
        resamples: Number of bootstrap samples.
        trained: Items that are not cold, see :meth:`EvaluationCases.from_sequences`.
        types: Types of the events, for figures by the type of the target.
        weights: Weights of targets in training, for figures in which they count as much; None where all weigh the same.

    Raises:
        ValueError: If there is no scorer, two share a name, or ``reference`` or a name in ``exact_of`` is none of them.
        DataError: If the events of a user are not in the order of the splits.
        RunError: If the split is empty, or a scorer returns NaN or the wrong shape.
    """
    exact_of = exact_of or {}
    _check_names([scorer.name for scorer in scorers], reference, exact_of)
    cases = EvaluationCases.from_sequences(sequences, n_items=n_items, split=split, trained=trained)
    tie_seed, bootstrap_seed, warm_seed, cold_seed, kinds_seed = np.random.SeedSequence(seed).spawn(5)

    ranks: dict[str, TargetRanks] = {}
    tops: dict[str, npt.NDArray[np.int64]] = {}
    for scorer in scorers:
        recorded = RecordedTop(scorer, TOP, cases.hidden)
        with track(f"Ranking {n_items} items for {len(cases)} users: {scorer.name}", total=len(cases)) as tracker:
            ranks[scorer.name] = rank_targets(recorded, cases, seed=tie_seed, progress=tracker)
        tops[scorer.name] = recorded.items

    blocks = _metric_blocks(ranks)
    whole = Sampled.draw(blocks, resamples=resamples, seed=bootstrap_seed)
    counts = np.bincount(training_items(sequences).values, minlength=n_items)
    bands = popularity_bands(counts)
    return EvaluationReport(
        split=split.label,
        cases=len(cases),
        cold_targets=int(cases.cold.sum()),
        repeated_targets=int(cases.repeated.sum()),
        items=n_items,
        seed=seed,
        resamples=resamples,
        reference=reference,
        results=whole.results(reference),
        target_kinds=target_kinds(
            cases, types, blocks, reference=reference, resamples=resamples, seed=kinds_seed, weights=weights
        ),
        warm_cold=warm_cold(
            cases,
            blocks,
            {name: each for name, each in ranks.items() if name not in exact_of},
            reference=reference,
            resamples=resamples,
            seeds=(warm_seed, cold_seed),
        ),
        served=None
        if served is None
        else _as_served(served, cases, ranks, blocks, tie_seed, resamples, bootstrap_seed),
        approximations=approximations(whole, exact_of),
        segments=segments(
            bands,
            cases,
            {name: each.excluded for name, each in ranks.items()},
            resamples=resamples,
            seed=bootstrap_seed,
        ),
        reach=catalog_reach(tops, cases.targets, f"{split.label} targets", counts, bands),
    )


def _as_served(
    served: Served,
    cases: EvaluationCases,
    ranks: Mapping[str, TargetRanks],
    blocks: Mapping[Key, npt.NDArray[np.float64]],
    tie_seed: np.random.SeedSequence,
    resamples: int,
    bootstrap_seed: np.random.SeedSequence,
) -> ScorerResult:
    """Metrics of what a server returns, with paired differences from the exact ranking without seen items."""
    name, scorer = f"{served.scorer.name}, as served", served.scorer
    if (found := ranks.get(scorer.name) if served.evaluated else None) is None:
        with track(f"Ranking {cases.n_items} items for {len(cases)} users: {name}", total=len(cases)) as tracker:
            found = rank_targets(scorer, cases, seed=tie_seed, progress=tracker)
    values = served_values(found, cases)
    exact: Key = (served.exact, "excluded")
    sampled = Sampled.draw({exact: blocks[exact], (name, "excluded"): values}, resamples=resamples, seed=bootstrap_seed)
    return sampled.results(served.exact)[1]


def _metric_blocks(ranks: Mapping[str, TargetRanks]) -> dict[Key, npt.NDArray[np.float64]]:
    blocks: dict[Key, npt.NDArray[np.float64]] = {}
    for name, each in ranks.items():
        blocks[name, "kept"] = metric_values(each.kept, each.n_kept)
        blocks[name, "excluded"] = metric_values(each.excluded, each.n_excluded)
    return blocks


def _check_names(names: list[str], reference: str | None, exact_of: Mapping[str, str]) -> None:
    if not names:
        raise ValueError("no scorer given: pass at least one")
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        raise ValueError(f"scorer name {repeated[0]!r} is used more than once: results are looked up by name")
    if reference is not None and reference not in names:
        raise ValueError(f"reference {reference!r} is not one of the scorers {names}")
    for approximate, exact in exact_of.items():
        if approximate not in names or exact not in names or exact in exact_of:
            raise ValueError(
                f"exact_of compares {approximate!r} with {exact!r}: both must be of {names}, the second one exact"
            )
