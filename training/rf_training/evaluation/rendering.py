"""An evaluation report as tables for the terminal and for Markdown."""

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from rf_training.evaluation.bootstrap import Estimate
from rf_training.evaluation.metrics import REPORT_METRICS
from rf_training.evaluation.report import EvaluationReport, ScorerResult, Seen

_LABELS = tuple(metric.label for metric in REPORT_METRICS)
_TREATMENTS: tuple[Seen, ...] = ("kept", "excluded")


def report_tables(report: EvaluationReport) -> RenderableType:
    """Tables of at most 80 columns: metrics with seen items kept, with seen items excluded, and differences.

    Below each value stands half the width of its interval, which need not be symmetric: JSON and Markdown give both
    bounds.
    """
    tables = [
        _table(
            f"{report.split.capitalize()}, seen items {seen}",
            {result.scorer: result.metrics for result in report.results if result.seen == seen},
        )
        for seen in _TREATMENTS
    ]
    differences = {_difference_label(result): result.differences for result in report.results if result.differences}
    if differences:
        tables.append(_table(f"Difference from {report.reference}", differences, signed=True))
    return Group(*tables, _caption(report, "± is half the width of"))


def report_markdown(report: EvaluationReport) -> str:
    """The same tables in Markdown, each value with the bounds of its interval."""
    sections = []
    for seen in _TREATMENTS:
        rows = {result.scorer: result.metrics for result in report.results if result.seen == seen}
        sections.append(f"### {report.split.capitalize()}, seen items {seen}\n\n{_markdown_table(rows)}")
    differences = {_difference_label(result): result.differences for result in report.results if result.differences}
    if differences:
        sections.append(f"### Difference from {report.reference}\n\n{_markdown_table(differences, signed=True)}")
    return "\n\n".join([*sections, _caption(report, "Brackets are")]) + "\n"


def _caption(report: EvaluationReport, interval: str) -> str:
    return (
        f"{report.cases} users, one target each ({report.repeated_targets} consumed before), ranked among all "
        f"{report.items} items; ties in random order (seed {report.seed}). {interval} the {report.confidence:.0%} "
        f"bootstrap interval over users ({report.resamples} resamples)."
    )


def _difference_label(result: ScorerResult) -> str:
    return f"{result.scorer} ({result.seen})"


def _table(title: str, rows: dict[str, dict[str, Estimate]], *, signed: bool = False) -> Table:
    table = Table(title=escape(title), title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("")
    for label in _LABELS:
        table.add_column(label.replace("@", "\n@"), justify="right", no_wrap=True)
    for name, metrics in rows.items():
        cells = [metrics[label.lower()] for label in _LABELS]
        table.add_row(
            escape(name), *(f"{_number(each.value, signed)}\n±{(each.high - each.low) / 2:.4f}" for each in cells)
        )
    return table


def _markdown_table(rows: dict[str, dict[str, Estimate]], *, signed: bool = False) -> str:
    lines = ["| | " + " | ".join(_LABELS) + " |", "|---|" + "---:|" * len(_LABELS)]
    for name, metrics in rows.items():
        cells = [metrics[label.lower()] for label in _LABELS]
        numbers = (
            f"{_number(each.value, signed)} [{_number(each.low, signed)}, {_number(each.high, signed)}]"
            for each in cells
        )
        lines.append(f"| {name} | " + " | ".join(numbers) + " |")
    return "\n".join(lines)


def _number(value: float, signed: bool) -> str:
    return f"{value:+.4f}" if signed else f"{value:.4f}"
