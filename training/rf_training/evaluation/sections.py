"""Tables of an evaluation report as values, before they become text."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rf_training.evaluation.bootstrap import Estimate
from rf_training.evaluation.reach import CatalogReach
from rf_training.evaluation.report import EvaluationReport
from rf_training.evaluation.result import ScorerResult, Seen, find_result
from rf_training.evaluation.segments import SEGMENT_METRICS, Segment
from rf_training.evaluation.warm_cold import BALANCED_METRIC, WarmCold

NONE = "–"  # noqa: RUF001
"""Stands where there is no figure."""
TREATMENTS: tuple[Seen, ...] = ("kept", "excluded")

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
        groups: whether the warm and the cold targets get tables of all these metrics, beside the one that compares them.
    """
    split = report.split.capitalize()
    for seen in TREATMENTS:
        results = [r for r in report.results if r.seen == seen]
        if report.served is not None and seen == report.served.seen:
            results.append(report.served)
        yield _metrics(f"{split}, seen items {seen}", results, labels)
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
