"""Tables of re-rankers: rich for the terminal, Markdown for files."""

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from rf_training.evaluation.bootstrap import Estimate
from rf_training.rerank.comparison import Comparison, RerankerRow
from rf_training.rerank.quality import METRICS, SELECTION

HEADS = {"auc": "AUC", "candidate auc": "AUC among candidates"}


def comparison_table(comparison: Comparison) -> Table:
    """Return the table for the terminal: means, and what is gained over the retriever's order."""
    shown = ("recall@10", "ndcg@5", "ndcg@10", "ndcg@20", "auc", "candidate auc")
    table = Table(
        "re-ranker",
        *map(head, shown),
        f"Δ {head(SELECTION)}",
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
    heads = ("re-ranker", *map(head, METRICS), f"Δ {head(SELECTION)}", "AUC of the full ranker's", "parameters")
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
    return f"{_title(comparison)}\n\n{markdown(heads, lines)}"


def markdown(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    rows = [heads, ["---"] * len(heads), *lines]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _title(comparison: Comparison) -> str:
    return (
        f"{comparison.dataset}, run {comparison.run}: {comparison.cases:,} {comparison.split} targets, "
        f"{comparison.found:.2%} of them among the {comparison.candidates:,} candidates, seen items excluded"
    )


def head(metric: str) -> str:
    """Return how a metric is called in a table."""
    family, _, k = metric.partition("@")
    return HEADS.get(metric) or {"recall": "Recall", "ndcg": "NDCG"}[family] + f"@{k}"


def _interval(estimate: Estimate) -> str:
    return f"{estimate.value:.4f} [{estimate.low:.4f}, {estimate.high:.4f}]"


def _difference(row: RerankerRow) -> str:
    if row.differences is None:
        return ""
    found = row.differences[SELECTION]
    star = "*" if found.low > 0 or found.high < 0 else ""
    return f"{found.value:+.4f}{star} [{found.low:+.4f}, {found.high:+.4f}]"
