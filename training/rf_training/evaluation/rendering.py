"""An evaluation report as tables for the terminal and for Markdown."""

import textwrap
from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from rf_training.evaluation.bootstrap import Estimate
from rf_training.evaluation.report import EvaluationReport
from rf_training.evaluation.sampled import METRIC_LABELS
from rf_training.evaluation.sections import Cell, Section, sections

TERMINAL_LABELS = ("Recall@5", "Recall@10", "Recall@20", "Recall@50", "NDCG@10", "NDCG@20", "MRR")
"""The metrics that a terminal has room for."""
_HEADER_WIDTH = 11


def report_tables(report: EvaluationReport) -> RenderableType:
    """Tables of at most 100 columns with the most used metrics; JSON and Markdown have all of them.

    Below each value stands half the width of its interval, which need not be symmetric: JSON and Markdown give both
    bounds.
    """
    parts: list[RenderableType] = []
    for section in sections(report, TERMINAL_LABELS, groups=False):
        parts += [
            Text(section.title, style="italic"),
            _table(section),
        ]  # the title of a table is no wider than the table
    return Group(*parts, _caption(report, "± is half the width of"))


def report_markdown(report: EvaluationReport) -> str:
    """Return the same tables in Markdown with all metrics, each value with the bounds of its interval."""
    tables = [
        f"### {section.title}\n\n{_markdown_table(section)}" for section in sections(report, METRIC_LABELS, groups=True)
    ]
    return "\n\n".join([*tables, _caption(report, "Brackets are")]) + "\n"


def _caption(report: EvaluationReport, interval: str) -> str:
    return (
        f"{report.cases} users, one target each ({report.repeated_targets} consumed before), ranked among all "
        f"{report.items} items; ties in random order (seed {report.seed}). {interval} the {report.confidence:.0%} "
        f"bootstrap interval over users ({report.resamples} resamples)."
    )


def _table(section: Section) -> Table:
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("")
    for column in section.columns:
        table.add_column(escape(_header(column)), justify="right")
    for name, cells in section.rows:
        table.add_row(escape(name), *(_terminal_cell(cell, section.signed) for cell in cells))
    return table


def _header(column: str) -> str:
    metric, at, k = column.partition("@")
    return "\n".join([*textwrap.wrap(metric, _HEADER_WIDTH), *([at + k] if at else [])])


def _terminal_cell(cell: Cell, signed: bool) -> str:
    if isinstance(cell, Estimate):
        return f"{_number(cell.value, signed)}\n±{(cell.high - cell.low) / 2:.4f}"
    return escape(cell.replace(" [", "\n["))


def _markdown_table(section: Section) -> str:
    lines = [[name, *(_markdown_cell(cell, section.signed) for cell in cells)] for name, cells in section.rows]
    return markdown_table(["", *section.columns], lines).rstrip("\n")


def markdown_table(heads: Sequence[str], lines: Sequence[Sequence[str]], *, text_columns: int = 1) -> str:
    """Return a Markdown table, a line break after every row; the columns behind the first ``text_columns`` are set right."""
    rule = f"|{'---|' * text_columns}{'---:|' * (len(heads) - text_columns)}\n"
    head, *rows = ("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |\n" for row in (heads, *lines))
    return "".join((head, rule, *rows))


def _markdown_cell(cell: Cell, signed: bool) -> str:
    if isinstance(cell, Estimate):
        return f"{_number(cell.value, signed)} [{_number(cell.low, signed)}, {_number(cell.high, signed)}]"
    return cell


def _number(value: float, signed: bool) -> str:
    return f"{value:+.4f}" if signed else f"{value:.4f}"
