"""One evaluation from the event sequences to the report."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from rf_platform.cli.console import track
from rf_training.evaluation.bootstrap import bootstrap_means, estimates
from rf_training.evaluation.cases import LeaveOneOutCases
from rf_training.evaluation.metrics import REPORT_METRICS
from rf_training.evaluation.ranking import rank_targets
from rf_training.evaluation.report import EvaluationReport, ScorerResult, Seen
from rf_training.evaluation.scorer import Scorer
from rf_training.evaluation.sequences import Sequences, Split

RESAMPLES = 1000
"""Bootstrap samples behind each interval."""

_METRIC_KEYS = tuple(metric.label.lower() for metric in REPORT_METRICS)


def evaluate(
    sequences: Sequences,
    scorers: Sequence[Scorer],
    *,
    n_items: int,
    split: Split,
    seed: int,
    reference: str | None = None,
    resamples: int = RESAMPLES,
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
        resamples: Number of bootstrap samples.

    Raises:
        ValueError: If there is no scorer, two share a name, or ``reference`` is none of them.
        DataError: If the sequences break the leave-one-out order.
        RunError: If the split is empty, or a scorer returns NaN or the wrong shape.
    """
    names = [scorer.name for scorer in scorers]
    _check_names(names, reference)
    cases = LeaveOneOutCases.from_sequences(sequences, n_items=n_items, split=split)
    tie_seed, bootstrap_seed = np.random.SeedSequence(seed).spawn(2)

    keys: list[tuple[str, Seen]] = []
    blocks: list[npt.NDArray[np.float64]] = []  # by key: [n_cases, n_metrics]
    for scorer in scorers:
        with track(f"Ranking {n_items} items for {len(cases)} users: {scorer.name}", total=len(cases)) as tracker:
            ranks = rank_targets(scorer, cases, seed=tie_seed, progress=tracker)
        by_treatment: tuple[tuple[Seen, npt.NDArray[np.int64]], ...] = (
            ("kept", ranks.kept),
            ("excluded", ranks.excluded),
        )
        for seen, ranks_N in by_treatment:
            keys.append((scorer.name, seen))
            blocks.append(np.stack([metric(ranks_N) for metric in REPORT_METRICS], axis=1))

    return EvaluationReport(
        split=split.label,
        cases=len(cases),
        repeated_targets=cases.count_repeated_targets(),
        items=n_items,
        seed=seed,
        resamples=resamples,
        reference=reference,
        results=_results(keys, blocks, reference, resamples=resamples, seed=bootstrap_seed),
    )


def _results(
    keys: list[tuple[str, Seen]],
    blocks: list[npt.NDArray[np.float64]],
    reference: str | None,
    *,
    resamples: int,
    seed: np.random.SeedSequence,
) -> tuple[ScorerResult, ...]:
    """Resample the users once for all scorers, metrics and treatments."""
    width = len(REPORT_METRICS)
    values = np.concatenate(blocks, axis=1)
    means = bootstrap_means(values, resamples=resamples, seed=seed)
    columns = {key: slice(index * width, (index + 1) * width) for index, key in enumerate(keys)}
    results = []
    for (name, seen), own in columns.items():
        differences = None
        if reference is not None and name != reference:
            other = columns[reference, seen]
            paired = estimates(values[:, own] - values[:, other], means[:, own] - means[:, other])
            differences = dict(zip(_METRIC_KEYS, paired, strict=True))
        metrics = dict(zip(_METRIC_KEYS, estimates(values[:, own], means[:, own]), strict=True))
        results.append(ScorerResult(scorer=name, seen=seen, metrics=metrics, differences=differences))
    return tuple(results)


def _check_names(names: list[str], reference: str | None) -> None:
    if not names:
        raise ValueError("no scorer given: pass at least one")
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        raise ValueError(f"scorer name {repeated[0]!r} is used more than once: results are looked up by name")
    if reference is not None and reference not in names:
        raise ValueError(f"reference {reference!r} is not one of the scorers {names}")
