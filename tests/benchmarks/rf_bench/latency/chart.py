"""The charts of ``rf bench latency``."""

from collections.abc import Callable, Mapping
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from rf_bench.latency.options import RESULTS, size_name
from rf_serving.index import LOCAL_KINDS
from rf_training.report.drawing import MUTED, SERIES, Chart, Ink, finish, log_scale, panel, style

_APPROXIMATE = [kind for kind, index in LOCAL_KINDS.items() if not index.exact]
COLOURS: Mapping[str, Ink] = {
    kind: SERIES[_APPROXIMATE[::-1].index(kind)] if kind in _APPROXIMATE else MUTED for kind in LOCAL_KINDS
}


def draw(result: Mapping[str, Any]) -> list[Chart]:
    """Draw what was measured."""
    sizes = result["sizes"]
    return [
        curve_chart(sizes),
        _by_size(
            sizes,
            "latency",
            "Latency of one query",
            "milliseconds",
            lambda kind: kind["ms"]["p50"],
            "Median of single queries for 100 results on one thread; the thin line is the 99th percentile.",
            lambda kind: kind["ms"]["p99"],
        ),
        _by_size(
            sizes,
            "speedup",
            "Times faster than the exact scan",
            "ratio of medians",
            lambda kind: kind["speedup"]["p50"],
            f"At recall@{RESULTS} of {result['options']['recall']:.2f} or more, as tuned on other queries.",
        ),
        _by_size(
            sizes,
            "memory",
            "Index beside the vectors",
            "bytes an item",
            lambda kind: kind["build"]["index_bytes"] or None,
            "Size of the index files by number of items; the vectors, which all kinds share, have "
            f"{4 * result['options']['dim']} bytes an item. The exact scan needs nothing else.",
            per_item=True,
        ),
        _by_size(
            sizes,
            "build",
            "Building the index",
            "CPU seconds",
            lambda kind: kind["build"]["cpu_seconds"] if kind["build"]["index_bytes"] else None,
            "CPU time of all threads, without encoding the items and without tuning.",
        ),
    ]


def curve_chart(sizes: list[Mapping[str, Any]]) -> Chart:
    """Draw recall against latency: a panel for each size, a line for each approximate kind, a dot where it was tuned to."""
    columns = min(2, len(sizes))
    rows = -(-len(sizes) // columns)
    with style():
        figure = Figure(figsize=(4.4 * columns, 2.9 * rows + 0.4), layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False)
        for axes, size in zip(grid.flat, sizes, strict=False):
            _curve(axes, size)
        for axes in grid.flat[len(sizes) :]:
            axes.set_axis_off()
        handles, labels = grid.flat[-1].get_legend_handles_labels()
        for axes in grid.flat:
            for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
                if label not in labels:
                    handles.append(handle)
                    labels.append(label)
        figure.legend(handles, labels, loc="outside lower left", ncols=len(labels))
        return finish(
            figure,
            name="curve",
            title="Recall against latency",
            note=f"Recall@{RESULTS} against the exact scan and median latency of single queries on one thread, for rising "
            "efforts (lists probed, efSearch); the dot is what tuning chose, the dashed line the exact scan.",
            wide=True,
        )


def _curve(axes: Axes, size: Mapping[str, Any]) -> None:
    axes.set_title(f"{size_name(size['items'])} items")
    for kind, result in size["kinds"].items():
        colour = COLOURS[kind].light
        if "curve" not in result:
            axes.axvline(
                result["ms"]["p50"], color=colour, linewidth=1.2, linestyle=(0, (4, 3)), label=LOCAL_KINDS[kind].title
            )
            continue
        points = result["curve"]
        axes.plot(
            [p["ms"]["p50"] for p in points],
            [p["recall"][str(RESULTS)] for p in points],
            color=colour,
            marker="o",
            markersize=2.5,
            label=LOCAL_KINDS[kind].title,
        )
        axes.plot([result["ms"]["p50"]], [result["recall"][str(RESULTS)]], "o", color=colour, markersize=7)
    log_scale(axes, "x")
    axes.set(xlabel="milliseconds, median")
    axes.set_ylim(0.5, 1.005)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))


def _by_size(
    sizes: list[Mapping[str, Any]],
    name: str,
    title: str,
    label: str,
    value: Callable[[Mapping[str, Any]], float | None],
    note: str,
    upper: Callable[[Mapping[str, Any]], float] | None = None,
    per_item: bool = False,
) -> Chart:
    """Draw one figure of every kind against the number of items, both axes in powers of ten."""
    with panel(title) as (figure, axes):
        for kind, ink in COLOURS.items():
            some = [size for size in sizes if kind in size["kinds"] and value(size["kinds"][kind]) is not None]
            if not some:
                continue
            items = [size["items"] for size in some]
            divisor = items if per_item else [1] * len(items)
            values = [value(size["kinds"][kind]) or 0.0 for size in some]
            axes.plot(
                items,
                [v / d for v, d in zip(values, divisor, strict=True)],
                color=ink.light,
                marker="o",
                markersize=4,
                label=LOCAL_KINDS[kind].title,
            )
            if upper is not None:
                axes.plot(items, [upper(size["kinds"][kind]) for size in some], color=ink.light, linewidth=0.8)
        log_scale(axes, "x")
        axes.set_xticks([size["items"] for size in sizes], [size_name(size["items"]) for size in sizes], minor=False)
        if per_item:
            axes.set_ylim(bottom=0)
        else:
            log_scale(axes, "y")
        axes.set(xlabel="items", ylabel=label)
        figure.legend(loc="outside lower left", ncols=3, handlelength=1, columnspacing=1.2)
        return finish(figure, name=name, title=title, note=note)
