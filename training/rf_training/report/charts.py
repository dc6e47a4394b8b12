"""Charts of a run report, the map of the item vectors among them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter, MaxNLocator
from matplotlib.transforms import Bbox

from rf_training.report.collect import Curve, binned
from rf_training.report.drawing import HALO, MUTED, REST, SERIES, TEXT, Chart, finish, panel
from rf_training.report.item_map import ItemMap

_CURVES: dict[str, tuple[str, str, str]] = {
    "train/loss": ("Loss", "contrastive loss", "Of the batch."),
    "train/alignment": (
        "Alignment",
        "mean squared distance",
        "Between a user's vector and that of the next item; lower is closer.",
    ),
    "train/uniformity": (
        "Uniformity",
        "log mean exp(-2 d²)",
        "Log of the mean of exp(-2 d²) over pairs of users and candidates; lower is more evenly spread over the sphere.",
    ),
    "train/gradient_norm": ("Gradient norm", "norm before clipping", "Of all parameters together."),
    "train/learning_rate": ("Learning rate", "learning rate", "Linear warm-up, then a cosine."),
}
"""Title, label of the vertical axis and note of each scalar, in the order of the page."""


def training_charts(curves: Mapping[str, Curve], clip_norm: float | None) -> list[Chart]:
    """Draw the training curves that were recorded."""
    return [_curve(tag, curves[tag], clip_norm) for tag in _CURVES if tag in curves]


def _curve(tag: str, curve: Curve, clip_norm: float | None) -> Chart:
    title, label, note = _CURVES[tag]
    name = tag.partition("/")[2].replace("_", "-")
    points = binned(curve)
    with panel(title) as (figure, axes):
        axes.fill_between(points.steps, points.low, points.high, color=SERIES[0].light, alpha=0.2, linewidth=0)
        axes.plot(
            points.steps, points.mean, color=SERIES[0].light, marker="o" if len(points.steps) < 3 else "", markersize=4
        )
        if len(points.steps) < len(curve.steps):
            note += " The line is the mean of neighbouring values, the shade their range."
        axes.set(xlabel="optimiser step", ylabel=label)
        _steps(axes)
        if name == "gradient-norm" and clip_norm is not None and points.high.max() > 0.6 * clip_norm:
            axes.axhline(clip_norm, color=MUTED.light, linewidth=1, linestyle=(0, (4, 3)))
            note += f" The dashed line is where it is clipped ({clip_norm:g})."
        if name == "learning-rate":
            axes.set_ylim(bottom=0)
        return finish(figure, name=name, title=title, note=note)


def validation_charts(history: Sequence[Mapping[str, Any]], best_epoch: int | None) -> list[Chart]:
    """Draw recall, NDCG and MRR on the validation split against epochs, the chosen epoch marked."""
    charts = []
    for family, label in (("recall", "Recall"), ("ndcg", "NDCG"), ("mrr", "MRR")):
        keys = sorted((k for k in history[0] if k.startswith(f"{family}@")), key=lambda k: int(k.partition("@")[2]))
        if not keys:
            continue
        title = f"Validation {label}"
        with panel(title) as (figure, axes):
            epochs = [entry["epoch"] for entry in history]
            for key, ink in zip(keys, SERIES, strict=False):
                values = [entry[key] for entry in history]
                axes.plot(epochs, values, color=ink.light, marker="o", markersize=3.5)
                axes.annotate(
                    f"@{key.partition('@')[2]}",
                    (epochs[-1], values[-1]),
                    xytext=(7, 0),
                    textcoords="offset points",
                    color=ink.light,
                    va="center",
                )
            if best_epoch is not None:
                axes.axvline(best_epoch, color=MUTED.light, linewidth=1, linestyle=(0, (4, 3)))
            axes.set(xlabel="epoch", ylabel=f"{label}@k, seen items excluded")
            axes.set_ylim(bottom=0)
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
            axes.margins(x=0.06)
            note = "One target a user." if best_epoch is None else f"The dashed line is the chosen epoch, {best_epoch}."
            charts.append(finish(figure, name=f"validation-{family}", title=title, note=note))
    return charts


def result_chart(rows: Sequence[Mapping[str, Any]], metric: str) -> Chart:
    """Draw one metric of every scorer with its interval, seen items excluded and kept.

    Args:
        rows: entries of ``results`` of an evaluation report.
        metric: key of the metric, such as ``recall@20``.
    """
    label = metric_label(metric)
    return _scorer_chart(
        f"test-{metric.replace('@', '-')}",
        f"Test {label}",
        label,
        {
            f"seen items {seen}": {row["scorer"]: row["metrics"][metric] for row in rows if row["seen"] == seen}
            for seen in ("excluded", "kept")
        },
        "Mean over users with its 95% bootstrap interval.",
    )


def warm_cold_chart(warm_cold: Mapping[str, Any], metric: str) -> Chart:
    """Draw one metric of every scorer on warm and on cold targets, seen items excluded.

    Args:
        warm_cold: the part of an evaluation report.
        metric: key of the metric, such as ``recall@20``.
    """
    label = metric_label(metric)
    return _scorer_chart(
        f"warm-cold-{metric.replace('@', '-')}",
        f"Warm and cold {label}",
        label,
        {
            f"{group['targets']} among {group['candidates']} items": {
                row["scorer"]: row["metrics"][metric] for row in group["results"] if row["seen"] == "excluded"
            }
            for group in warm_cold["groups"]
        },
        "Seen items excluded; mean over the users of each kind of target with its 95% bootstrap interval.",
    )


def segment_chart(name: str, title: str, segments: Sequence[Mapping[str, Any]], scorers: Sequence[str]) -> Chart:
    """Draw Recall@20 of some scorers for every segment.

    Args:
        name: name of the chart.
        title: its title.
        segments: the part of an evaluation report.
        scorers: which scorers, at most as many as there are colours.
    """
    spread = 0.5 / max(1, len(scorers) - 1)
    with panel(title, height=1.3 + (0.2 + 0.13 * len(scorers)) * len(segments)) as (figure, axes):
        for index, (scorer, ink) in enumerate(zip(scorers, SERIES[len(scorers) - 1 :: -1], strict=True)):
            rows = [row + (index - (len(scorers) - 1) / 2) * spread for row in range(len(segments))]
            values = [segment["metrics"][scorer]["recall@20"] for segment in segments]
            _intervals(axes, rows, values, ink.light, scorer)
        _scorer_axis(
            axes,
            [f"{s['name']}\n{s['cases']:,} {'user' if s['cases'] == 1 else 'users'}" for s in segments],
            "Recall@20",
        )
        figure.legend(loc="outside lower left", ncols=3, handlelength=1, columnspacing=1.2)
        note = "Seen items excluded; mean over the users of the segment with its 95% bootstrap interval."
        return finish(figure, name=name, title=title, note=note)


def _scorer_chart(
    name: str, title: str, label: str, series: Mapping[str, Mapping[str, Mapping[str, float]]], note: str
) -> Chart:
    """Draw one row for each scorer with a point for each series that has it."""
    names = list(dict.fromkeys(scorer for values in series.values() for scorer in values))
    with panel(title, height=1.3 + (0.16 + 0.13 * len(series)) * len(names)) as (figure, axes):
        for index, ((legend, values), ink) in enumerate(zip(series.items(), SERIES, strict=False)):
            offset = (index - (len(series) - 1) / 2) * 0.26
            rows = [names.index(scorer) + offset for scorer in values]
            _intervals(axes, rows, list(values.values()), ink.light, legend)
        _scorer_axis(axes, names, label)
        figure.legend(loc="outside lower left", ncols=2, handlelength=1, columnspacing=1.2)
        return finish(figure, name=name, title=title, note=note)


def metric_label(metric: str) -> str:
    """Name of a metric as people write it, from its key."""
    return metric.replace("recall", "Recall").replace("ndcg", "NDCG").replace("mrr", "MRR").replace("auc", "AUC")


def _intervals(
    axes: Axes, rows: Sequence[float], values: Sequence[Mapping[str, float]], colour: str, label: str
) -> None:
    for row, value in zip(rows, values, strict=True):
        axes.plot([value["low"], value["high"]], [row, row], color=colour, linewidth=2, alpha=0.55)
    axes.plot([v["value"] for v in values], rows, "o", color=colour, markersize=5.5, label=label, clip_on=False)


def _scorer_axis(axes: Axes, names: Sequence[str], label: str) -> None:
    axes.set_yticks(range(len(names)), names, color=TEXT.light)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlim(left=0)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel(label)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.10g}"))


def _steps(axes: Axes) -> None:
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    thousands: Callable[[float, int], str] = lambda value, _: f"{value:,.0f}"  # noqa: E731
    axes.xaxis.set_major_formatter(FuncFormatter(thousands))
    values = np.concatenate([line.get_ydata() for line in axes.lines]).astype(float)
    if np.ptp(values) == 0:
        axes.margins(y=0.5)


LABELS = 14
"""Most titles written beside their points."""
SIZES = 6
"""Different sizes of points."""
LONGEST_LABEL = 26
"""Characters of a title that are shown."""


def map_chart(items: ItemMap) -> Chart:
    """Draw the item vectors with the titles of popular items where there is room for them."""
    title = "Item vectors" if items.colouring is None else f"Item vectors by {items.colouring.field.replace('_', ' ')}"
    with panel(title, width=7.4, height=5.9) as (figure, axes):
        _scatter(axes, items)
        axes.set(
            xlabel=f"first principal component ({items.explained[0]:.0%} of the variance)",
            ylabel=f"second ({items.explained[1]:.0%})",
        )
        axes.tick_params(labelbottom=False, labelleft=False)
        axes.margins(0.04)
        axes.grid(visible=False)
        if items.colouring is not None:
            figure.legend(loc="outside lower left", ncols=4, handletextpad=0.2, columnspacing=1.0)
        if items.titles is not None:
            _label(figure, axes, items)
        return finish(figure, name="item-map", title=title, note=_note(items), wide=True)


def _scatter(axes: Axes, items: ItemMap) -> None:
    """Draw the points, the smallest first; few sizes and one element for each colour of a size keep the page small."""
    share = np.sqrt(items.counts / max(1, items.counts.max()))
    sizes = np.linspace(2.2, 7.5, SIZES)[np.minimum((share * SIZES).astype(np.int64), SIZES - 1)]
    inks, names = [SERIES[0]], [""]
    codes = np.zeros(len(items.points), np.int64)
    if items.colouring is not None:
        codes = items.colouring.codes
        inks = [*SERIES[: len(items.colouring.values)], REST]
        names = [*map(shorten, items.colouring.values), "other or none"]
    for size in np.unique(sizes):
        for code in reversed(range(len(inks))):
            chosen = items.shown[(codes[items.shown] == code) & (sizes[items.shown] == size)]
            if len(chosen):
                axes.plot(
                    *items.points[chosen].T, "o", markersize=size, color=inks[code].light, alpha=0.7, markeredgewidth=0
                )
    for code, name in enumerate(names):
        if name and (codes[items.shown] == code).any():
            axes.plot([], [], "o", markersize=6, color=inks[code].light, markeredgewidth=0, label=name)


def _label(figure: Figure, axes: Axes, items: ItemMap) -> None:
    """Write titles from the most popular item on, to the right or left of the point, where they cover no other title."""
    assert items.titles is not None
    figure.draw_without_rendering()
    frame = axes.get_window_extent()
    taken: list[Bbox] = []
    for item in items.shown[::-1][: 6 * LABELS]:
        if len(taken) == LABELS or items.counts[item] == 0:
            break
        if not items.titles[item].strip():
            continue
        for side, align in ((6, "left"), (-6, "right")):
            text: Text = axes.annotate(
                shorten(items.titles[item]),
                (float(items.points[item, 0]), float(items.points[item, 1])),
                xytext=(side, 0),
                textcoords="offset points",
                ha=align,
                va="center",
                fontsize=8.5,
                color=TEXT.light,
                gid=f"{HALO}-{item}",
            )
            box = text.get_window_extent().expanded(1.05, 1.25)
            if frame.containsx(box.x0) and frame.containsx(box.x1) and not any(box.overlaps(other) for other in taken):
                taken.append(box)
                break
            text.remove()


def _note(items: ItemMap) -> str:
    note = "Each point is an item of the catalog; its size grows with the number of training events."
    if len(items.shown) < len(items.points):
        note = (
            f"{len(items.shown):,} of {len(items.points):,} items, the most popular and a random part of the others; "
            "the size of a point grows with the number of training events."
        )
    if items.colouring is None:
        note += " No item feature is categorical, so all points have one colour."
    else:
        note += f" The colour is the item's {items.colouring.field}: of several values the one most frequent in the catalog."
    if items.titles is None:
        note += " The feature service has no display field for items (tag role=display), so no item is named."
    return note


def shorten(text: str) -> str:
    """Return a text on one line, cut where it is longer than :data:`LONGEST_LABEL`."""
    line = " ".join(text.split())
    return line if len(line) <= LONGEST_LABEL else line[: LONGEST_LABEL - 1].rstrip() + "…"
