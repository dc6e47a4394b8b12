"""The report as an HTML page that needs nothing but itself, with its charts as PNG files beside it."""

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from rf_platform.files import replace_text
from rf_training.evaluation.rendering import TERMINAL_LABELS
from rf_training.report.charts import (
    map_chart,
    metric_label,
    result_chart,
    segment_chart,
    training_charts,
    validation_charts,
    warm_cold_chart,
)
from rf_training.report.collect import RunReport
from rf_training.report.drawing import INKS, Chart
from rf_training.report.goal_charts import goal_charts

CHARTED_METRICS = ("recall@20", "ndcg@20")
SHOWN_METRICS = tuple(label.lower() for label in TERMINAL_LABELS)
"""The columns of the tables that are open; all metrics are a click away."""


def write_page(report: RunReport, path: Path) -> list[Path]:
    """Write the page to ``path`` and its charts beside it, as ``<stem>-<chart>.png``.

    Returns:
        The PNG files, in the order of the page.
    """
    charts = draw(report)
    replace_text(path, render(report, charts))
    images = []
    for chart in (chart for section in charts.values() for chart in section):
        images.append(path.with_name(f"{path.stem}-{chart.name}.png"))
        chart.save(images[-1])
    return images


def draw(report: RunReport) -> dict[str, list[Chart]]:
    """Draw the charts of each section that has what it takes."""
    charts: dict[str, list[Chart]] = {}
    if (test := report.test) is not None:
        charts["test"] = [result_chart(test["results"], metric) for metric in CHARTED_METRICS]
        if test["warm_cold"] is not None:
            charts["warm-cold"] = [warm_cold_chart(test["warm_cold"], metric) for metric in CHARTED_METRICS]
        if report.goals is not None:
            charts["goals"] = goal_charts(report.goals)
        segments = test["segments"]
        charts["segments"] = [
            segment_chart("segments-popularity", "By popularity of the item", segments["popularity"], report.scorers),
            segment_chart("segments-history", "By length of the history", segments["history"], report.scorers),
        ]
    if report.recorded is not None:
        charts["training"] = training_charts(report.recorded.curves, report.run.config["train"].get("clip_norm"))
    if report.history:
        charts["validation"] = validation_charts(report.history, report.best_epoch)
    if report.item_map is not None:
        charts["map"] = [map_chart(report.item_map)]
    return charts


def render(report: RunReport, charts: dict[str, list[Chart]]) -> str:
    """Return the page. Every text from the data is escaped; only the charts' own SVG is taken as it is."""
    environment = Environment(
        loader=PackageLoader("rf_training.report", "template"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters.update(svg=Markup, sentence=_sentence, size=_size, plain=_plain, label=metric_label)
    return environment.get_template("page.html").render(
        report=report,
        run=report.run,
        charts=charts,
        inks=INKS,
        tiles=_tiles(report),
        shown=SHOWN_METRICS,
        now=datetime.now(UTC),
    )


def _tiles(report: RunReport) -> list[tuple[str, str, str]]:
    """Return the figures at the top: label, figure, remark."""
    tiles = []
    if report.test is not None:
        reference, model = report.test["reference"], report.scorers[-1]
        excluded = {row["scorer"]: row["metrics"] for row in report.test["results"] if row["seen"] == "excluded"}
        for metric in CHARTED_METRICS:
            value = excluded[model][metric]
            remark = f"{value['low']:.4f} to {value['high']:.4f}"
            if model != reference and reference in excluded and excluded[reference][metric]["value"]:
                remark += f"; {value['value'] / excluded[reference][metric]['value']:.1f} times {reference}"
            tiles.append((f"{metric_label(metric)}, test", f"{value['value']:.4f}", remark))
        reach = next(row for row in report.test["reach"]["rows"] if row["scorer"] == model)
        tiles.append(("Coverage@20", f"{reach['coverage']:.0%}", "of the catalog is recommended to somebody"))
    elif report.history:
        best = max(report.history, key=lambda entry: entry.get("ndcg@20", 0.0))
        tiles.append(("NDCG@20, validation", f"{best['ndcg@20']:.4f}", f"epoch {best['epoch']}"))
    if report.size is not None:
        tiles.append(
            ("Parameters", f"{report.size.parameters:,}", f"{_size(report.size.table_bytes)} of embedding tables")
        )
    if report.recorded is not None:
        steps = max(int(curve.steps[-1]) for curve in report.recorded.curves.values())
        tiles.append(("Training time", _duration(report.recorded.seconds), f"{steps:,} steps, validation included"))
    return tiles


def _sentence(text: str) -> Markup:
    """Escape a sentence and set what stands between backquotes as code."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def _size(count: float) -> str:
    for unit in ("bytes", "KiB", "MiB"):
        if count < 1024:
            return f"{count:,.0f} {unit}" if unit == "bytes" else f"{count:,.1f} {unit}"
        count /= 1024
    return f"{count:,.1f} GiB"


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _plain(value: Any) -> str:
    """Write a setting as `--set` takes it."""
    return str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)
