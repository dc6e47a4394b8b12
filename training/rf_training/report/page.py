"""The report as an HTML page that needs nothing but itself, with its charts as PNG files beside it."""

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from rf_training.report.charts import result_chart, segment_chart, training_charts, validation_charts
from rf_training.report.collect import RunReport
from rf_training.report.drawing import INKS, Chart
from rf_training.report.map_chart import map_chart

CHARTED_METRICS = ("recall@20", "ndcg@20")


def write_page(report: RunReport, path: Path) -> list[Path]:
    """Write the page to ``path`` and its charts beside it, as ``<stem>-<chart>.png``.

    Returns:
        The PNG files, in the order of the page.
    """
    charts = draw(report)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(render(report, charts), encoding="utf-8")
    images = []
    for chart in (chart for section in charts.values() for chart in section):
        images.append(path.with_name(f"{path.stem}-{chart.name}.png"))
        chart.save(images[-1])
    return images


def draw(report: RunReport) -> dict[str, list[Chart]]:
    """Draw the charts of each section that has what it takes."""
    charts: dict[str, list[Chart]] = {}
    if report.test is not None:
        rows = report.test["results"]
        charts["test"] = [result_chart(rows, metric) for metric in CHARTED_METRICS if metric in rows[0]["metrics"]]
    if report.scored is not None:
        charts["segments"] = [
            segment_chart("segments-popularity", "By popularity of the item", report.scored.by_popularity),
            segment_chart("segments-history", "By length of the history", report.scored.by_history),
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
    environment.filters.update(svg=Markup, sentence=_sentence, size=_size, plain=_plain, label=_label)
    return environment.get_template("page.html").render(
        report=report, run=report.run, charts=charts, inks=INKS, tiles=_tiles(report), now=datetime.now(UTC)
    )


def _tiles(report: RunReport) -> list[tuple[str, str, str]]:
    """Return the figures at the top: label, figure, remark."""
    tiles = []
    if report.test is not None:
        reference = report.test["reference"]
        excluded = {row["scorer"]: row["metrics"] for row in report.test["results"] if row["seen"] == "excluded"}
        scorer, metrics = list(excluded.items())[-1]  # the model stands last, after the baselines
        for metric in CHARTED_METRICS:
            if metric not in metrics:
                continue
            value = metrics[metric]
            remark = f"{value['low']:.4f} to {value['high']:.4f}"
            if scorer != reference and reference in excluded and excluded[reference][metric]["value"]:
                remark += f"; {value['value'] / excluded[reference][metric]['value']:.1f} times {reference}"
            tiles.append((f"{_label(metric)}, test", f"{value['value']:.4f}", remark))
    elif report.history:
        best = max(report.history, key=lambda entry: entry.get("ndcg@20", 0.0))
        tiles.append(("NDCG@20, validation", f"{best['ndcg@20']:.4f}", f"epoch {best['epoch']}"))
    if report.scored is not None:
        model = next(row for row in report.scored.reach if row.scorer == report.scored.model)
        tiles.append(("Coverage@20", f"{model.coverage:.0%}", "of the catalog is recommended to somebody"))
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


def _label(metric: str) -> str:
    return metric.replace("recall", "Recall").replace("ndcg", "NDCG").replace("mrr", "MRR")


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
