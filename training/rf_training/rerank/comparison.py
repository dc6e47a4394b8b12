"""Comparison of a run's re-rankers: same targets, same candidates, paired differences, in one table.

Shapes: P cases, M metrics, R resamples.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from rf_platform.cli.console import track
from rf_training.evaluation.bootstrap import CONFIDENCE, Estimate, bootstrap_means, estimates
from rf_training.evaluation.rendering import markdown_table
from rf_training.rerank.cases import RerankCases
from rf_training.rerank.quality import AUC, LABELS, METRICS, SELECTION, Quality, measure
from rf_training.rerank.ranker import DOT, Ranker
from rf_training.rerank.scoring import item_states
from rf_training.rerank.target_attention import TargetAttention
from rf_training.rerank.towers import Towers

RESAMPLES = 1000
BOUND = TargetAttention.kind
"""Kind of the full ranker: its AUC is the bound of quality."""


@dataclass(frozen=True, kw_only=True)
class RerankerRow:
    """One re-ranker in the table."""

    name: str
    kind: str
    parameters: int
    metrics: dict[str, Estimate]
    """Mean over users of every metric, with its interval."""
    differences: dict[str, Estimate] | None
    """The same minus the retriever's order, paired by user; None for the retriever itself."""
    of_bound: Estimate | None
    """AUC over the full ranker's, of the same resampled users; None without a full ranker."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Result of `rf rerank compare`."""

    run: str
    dataset: str
    split: str
    cases: int
    candidates: int
    """Most candidates of a case."""
    found: float
    """Share of the targets among the candidates: no order of them has a higher recall."""
    seed: int
    resamples: int
    rows: tuple[RerankerRow, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


def compare_rerankers(
    run: str,
    towers: Towers,
    cases: RerankCases,
    rankers: Mapping[str, Ranker],
    *,
    seed: int,
    resamples: int = RESAMPLES,
) -> Comparison:
    """Measure re-rankers on the same cases.

    Args:
        run: name of the run.
        towers: what all of them stand on.
        cases: of one split.
        rankers: by name, in the order of the table; one named ``dot`` must be among them.
        seed: of the bootstrap.
        resamples: number of bootstrap samples.
    """
    found: dict[str, Quality] = {}
    for name, ranker in rankers.items():
        with track(f"ranking {len(cases)} {cases.cases.split.label} targets: {name}", len(cases)) as progress:
            found[name] = measure(ranker, item_states(ranker, towers.unit_ND), cases, progress)
    return Comparison(
        run=run,
        dataset=towers.dataset.name,
        split=cases.cases.split.label,
        cases=len(cases),
        candidates=cases.candidates.item_PK.shape[1],
        found=cases.found(cases.candidates.item_PK.shape[1]),
        seed=seed,
        resamples=resamples,
        rows=_rows(found, rankers, seed, resamples),
    )


def _rows(
    found: Mapping[str, Quality], rankers: Mapping[str, Ranker], seed: int, resamples: int
) -> tuple[RerankerRow, ...]:
    values_PM = np.concatenate([quality.values_PM for quality in found.values()], axis=1)
    means_RM = bootstrap_means(values_PM, resamples=resamples, seed=seed)
    block = {name: slice(i * len(METRICS), (i + 1) * len(METRICS)) for i, name in enumerate(found)}
    bound = next((name for name, ranker in rankers.items() if ranker.kind == BOUND), None)
    rows = []
    for name, ranker in rankers.items():
        own, dot = block[name], block[DOT]
        differences = None
        if name != DOT:
            differences = _named(estimates(values_PM[:, own] - values_PM[:, dot], means_RM[:, own] - means_RM[:, dot]))
        rows.append(
            RerankerRow(
                name=name,
                kind=ranker.kind,
                parameters=sum(p.numel() for p in ranker.parameters()),
                metrics=_named(estimates(values_PM[:, own], means_RM[:, own])),
                differences=differences,
                of_bound=None if bound is None else _ratio(values_PM, means_RM, own, block[bound]),
            )
        )
    return tuple(rows)


def _named(found: Sequence[Estimate]) -> dict[str, Estimate]:
    return dict(zip(METRICS, found, strict=True))


def _ratio(values_PM: npt.NDArray[np.float64], means_RM: npt.NDArray[np.float64], own: slice, bound: slice) -> Estimate:
    """Return the AUC over that of the bound."""
    mine, other = own.start + METRICS.index(AUC), bound.start + METRICS.index(AUC)
    ratio_R = means_RM[:, mine] / means_RM[:, other]
    low, high = np.quantile(ratio_R, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Estimate(float(values_PM[:, mine].mean() / values_PM[:, other].mean()), float(low), float(high))


def comparison_table(comparison: Comparison) -> Table:
    """Return the table for the terminal: means, and what is gained over the retriever's order."""
    shown = ("recall@10", "ndcg@5", "ndcg@10", "ndcg@20", "auc", "candidate auc")
    table = Table(
        "re-ranker",
        *(LABELS[name] for name in shown),
        f"Δ {LABELS[SELECTION]}",
        "AUC of the full ranker's",
        box=SIMPLE_HEAD,
        title=_title(comparison),
        title_justify="left",
    )
    for row in comparison.rows:
        table.add_row(
            escape(row.name),
            *(f"{row.metrics[name].value:.4f}" for name in shown),
            _difference(row),
            "" if row.of_bound is None else f"{row.of_bound.value:.2%}",
        )
    return table


def comparison_markdown(comparison: Comparison) -> str:
    """Return a Markdown table with all metrics and intervals."""
    heads = ("re-ranker", *LABELS.values(), f"Δ {LABELS[SELECTION]}", "AUC of the full ranker's", "parameters")
    lines = [
        (
            row.name,
            *(_interval(row.metrics[name]) for name in METRICS),
            _difference(row),
            ""
            if row.of_bound is None
            else f"{row.of_bound.value:.2%} [{row.of_bound.low:.2%}, {row.of_bound.high:.2%}]",
            f"{row.parameters:,}",
        )
        for row in comparison.rows
    ]
    return f"{_title(comparison)}\n\n{markdown_table(heads, lines)}"


def _title(comparison: Comparison) -> str:
    return (
        f"{comparison.dataset}, run {comparison.run}: {comparison.cases:,} {comparison.split} targets, "
        f"{comparison.found:.2%} of them among the {comparison.candidates:,} candidates, seen items excluded"
    )


def _interval(estimate: Estimate) -> str:
    return f"{estimate.value:.4f} [{estimate.low:.4f}, {estimate.high:.4f}]"


def _difference(row: RerankerRow) -> str:
    if row.differences is None:
        return ""
    found = row.differences[SELECTION]
    star = "*" if found.low > 0 or found.high < 0 else ""
    return f"{found.value:+.4f}{star} [{found.low:+.4f}, {found.high:+.4f}]"
