"""Tables of an evaluation report: as values, for the terminal and for Markdown."""

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from rf_training.evaluation.bootstrap import Estimate
from rf_training.evaluation.reach import CatalogReach
from rf_training.evaluation.report import EvaluationReport
from rf_training.evaluation.result import ScorerResult, Seen, find_result
from rf_training.evaluation.sampled import METRIC_LABELS
from rf_training.evaluation.segments import SEGMENT_METRICS, Segment
from rf_training.evaluation.target_kinds import NEW
from rf_training.evaluation.warm_cold import BALANCED_METRIC, WarmCold

NONE = "–"  # noqa: RUF001
"""Stands where there is no figure."""
TREATMENTS: tuple[Seen, ...] = ("kept", "excluded")

KIND_METRIC = "Recall@20"
"""Metric that kinds of targets are compared by."""

Cell = Estimate | str


@dataclass(frozen=True, kw_only=True)
class Section:
    """One table."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Cell, ...]], ...]
    """Label and cells of each row."""
    signed: bool = False
    """Whether the figures are differences."""


def sections(report: EvaluationReport, labels: Sequence[str], *, groups: bool) -> Iterator[Section]:
    """All tables of a report.

    Args:
        report: the report.
        labels: the metrics that the tables of scorers show.
        groups: whether kinds of targets (warm and cold, by type) get tables of all these metrics, beside those that compare
            them.
    """
    split = report.split.capitalize()
    for seen in TREATMENTS:
        results = [r for r in report.results if r.seen == seen]
        if report.served is not None and seen == report.served.seen:
            results.append(report.served)
        yield _metrics(f"{split}, seen items {seen}", results, labels)
    yield from _target_kinds(report, labels, groups)
    if report.warm_cold is not None:
        yield _warm_cold(report, report.warm_cold)
        if groups:
            yield from _groups(split, report.warm_cold, labels)
    changed = [result for result in report.results if result.differences is not None]
    if changed:
        yield _differences(f"Difference from {report.reference}", changed, labels)
    if report.approximations:
        yield _through_index(report)
    yield _segments("by popularity of the item to find", report.segments.popularity)
    yield _segments("by length of the history", report.segments.history)
    yield _reach(report.reach)


def _metrics(title: str, results: Sequence[ScorerResult], labels: Sequence[str]) -> Section:
    rows = tuple((each.scorer, tuple(each.metrics[label.lower()] for label in labels)) for each in results)
    return Section(title=title, columns=tuple(labels), rows=rows)


def _target_kinds(report: EvaluationReport, labels: Sequence[str], groups: bool) -> Iterator[Section]:
    """All metrics of the targets that are new to their users, and a column for every kind."""
    kinds, split = report.target_kinds, report.split.capitalize()
    for kind in kinds:
        if kind.name == NEW or groups:
            results = [each for each in kind.results if each.seen == "excluded"]
            yield _metrics(f"{split}, {kind.cases:,} targets: {kind.name}, seen items excluded", results, labels)
    if not kinds:
        return
    key = KIND_METRIC.lower()
    rows = []
    for whole in (each for each in report.results if each.seen == "excluded"):
        own = [find_result(kind.results, whole.scorer, whole.seen) for kind in kinds]
        cells = [NONE if result is None else result.metrics[key] for result in own]
        rows.append((whole.scorer, (whole.metrics[key], *cells)))
    yield Section(
        title=f"{KIND_METRIC} by kind of target, seen items excluded",
        columns=(f"all ({report.cases:,})", *(f"{kind.name} ({kind.cases:,})" for kind in kinds)),
        rows=tuple(rows),
    )


def _differences(title: str, results: Sequence[ScorerResult], labels: Sequence[str]) -> Section:
    rows = tuple(
        (f"{each.scorer} ({each.seen})", tuple(each.differences[label.lower()] for label in labels))
        for each in results
        if each.differences is not None
    )
    return Section(title=title, columns=tuple(labels), rows=rows, signed=True)


def _warm_cold(report: EvaluationReport, found: WarmCold) -> Section:
    """One row a scorer: what all, warm and cold targets give, and the cold ones among themselves."""
    balance = {(each.scorer, each.seen): each.harmonic_mean for each in found.balance}

    def cell(targets: str, candidates: str, result: ScorerResult, metric: str) -> Cell:
        group = found.group(targets, candidates)
        own = None if group is None else find_result(group.results, result.scorer, result.seen)
        return NONE if own is None else own.metrics[metric]

    rows = tuple(
        (
            f"{result.scorer} ({result.seen})",
            (
                result.metrics[BALANCED_METRIC],
                cell("warm", "all", result, BALANCED_METRIC),
                cell("cold", "all", result, BALANCED_METRIC),
                balance.get((result.scorer, result.seen), NONE),
                cell("cold", "cold", result, BALANCED_METRIC),
                cell("cold", "cold", result, "auc"),
            ),
        )
        for result in report.results
    )
    warm = report.cases - report.cold_targets
    return Section(
        title=f"Warm and cold: Recall@20 of {warm:,} targets with training events and {report.cold_targets:,} without",
        columns=("all", "warm", "cold", "harmonic mean", "cold among cold", "AUC, cold among cold"),
        rows=rows,
    )


def _groups(split: str, found: WarmCold, labels: Sequence[str]) -> Iterator[Section]:
    for group in found.groups:
        among = "all items" if group.candidates == "all" else f"the {found.cold_items:,} cold items"
        for seen in TREATMENTS:
            results = [each for each in group.results if each.seen == seen]
            if results:
                yield _metrics(
                    f"{split}, {group.cases:,} {group.targets} targets among {among}, seen items {seen}",
                    results,
                    labels,
                )


def _through_index(report: EvaluationReport) -> Section:
    rows = tuple(
        (
            f"{each.scorer} ({each.seen})",
            (
                f"{each.exact_value:.4f}",
                f"{each.value:.4f}",
                NONE if each.kept is None else f"{each.kept:.2%}",
                f"{each.difference.value:+.4f} [{each.difference.low:+.4f}, {each.difference.high:+.4f}]",
            ),
        )
        for each in report.approximations
    )
    return Section(
        title="Recall@20 that a served index keeps of the exact ranking",
        columns=("exact", "through the index", "kept", "difference"),
        rows=rows,
    )


def _segments(what: str, found: Sequence[Segment]) -> Section:
    metric = SEGMENT_METRICS[0].label
    scorers = list(found[0].metrics)
    return Section(
        title=f"{metric} {what}, seen items excluded",
        columns=tuple(f"{each.name} ({each.cases:,})" for each in found),
        rows=tuple((s, tuple(each.metrics[s][metric.lower()] for each in found)) for s in scorers),
    )


def _reach(found: CatalogReach) -> Section:
    bands = [band.name for band in found.bands if band.size]
    rows = tuple(
        (
            row.scorer,
            (
                f"{row.coverage:.1%}",
                NONE if row.mean_rank is None else f"{row.mean_rank:,.0f}",
                *(f"{row.bands[band]:.1%}" for band in bands),
            ),
        )
        for row in found.rows
    )
    return Section(
        title=f"Reach of the catalog: the best {found.k} unseen items of every user",
        columns=("coverage", "mean popularity rank", *bands),
        rows=rows,
    )


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
            section_table(section),
        ]  # the title of a table is no wider than the table
    return Group(*parts, _caption(report, "± is half the width of"))


def report_markdown(report: EvaluationReport) -> str:
    """Return the same tables in Markdown with all metrics, each value with the bounds of its interval."""
    tables = [
        f"### {section.title}\n\n{section_markdown(section)}"
        for section in sections(report, METRIC_LABELS, groups=True)
    ]
    return "\n\n".join([*tables, _caption(report, "Brackets are")]) + "\n"


def _caption(report: EvaluationReport, interval: str) -> str:
    return (
        f"{report.cases} users, one target each ({report.repeated_targets} consumed before), ranked among all "
        f"{report.items} items; ties in random order (seed {report.seed}). {interval} the {report.confidence:.0%} "
        f"bootstrap interval over users ({report.resamples} resamples)."
    )


def section_table(section: Section) -> Table:
    """Return a section for the terminal, half the width of each interval below its figure."""
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


def section_markdown(section: Section) -> str:
    """Return a section as a Markdown table, with the bounds of each interval."""
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
