"""The table and the charts of ``rf bench filter``."""

from collections.abc import Iterable

from rf_bench.filter.measure import Measured, MeasuredSize
from rf_bench.latency.options import size_name
from rf_bench.report import Table
from rf_training.report.drawing import MUTED, SERIES, Chart, finish, log_scale, panel

WAYS = {
    "planned": ("as planned", SERIES[0]),
    "index": ("index first", SERIES[1]),
    "exact": ("what passes", SERIES[2]),
    "whole": ("whole scan", MUTED),
}


def table(sizes: Iterable[MeasuredSize]) -> Table:
    """Return all filters of all sizes."""
    heads = "items, filter, pass, ms, p99, recall, by index, index ms, index recall, exact ms, whole ms, times"
    return Table(
        caption="Medians of CPU milliseconds; times: the whole scan beside the planned way",
        heads=heads.split(", "),
        rows=[_row(size_name(size.items), each) for size in sizes for each in size.filters],
        labels=2,
        page_only=("p99", "index ms", "index recall"),
    )


def _row(size: str, each: Measured) -> list[str]:
    index = each.index
    return [
        size,
        each.kind,
        f"{each.share:.1%}",
        f"{each.planned.ms_p50:.2f}",
        f"{each.planned.ms_p99:.2f}",
        f"{each.planned.recall:.4f}",
        f"{each.approximate:.0%}",
        f"{index.ms_p50:.2f}" if index else "",
        f"{index.recall:.4f}" if index else "",
        f"{each.exact.ms_p50:.2f}",
        f"{each.whole.ms_p50:.2f}",
        f"{each.whole.ms_p50 / each.planned.ms_p50:.1f}",
    ]


def chart(size: MeasuredSize) -> Chart:
    """Draw the latency of each way of searching against the share of items that pass."""
    title = f"Latency behind a filter, {size_name(size.items)} items"
    with panel(title) as (figure, axes):
        for name, (label, ink) in WAYS.items():
            some = [each for each in size.filters if each.kind == "independent" and getattr(each, name)]
            times = [getattr(each, name).ms_p50 for each in some]
            axes.plot([each.share for each in some], times, color=ink.light, marker="o", markersize=4, label=label)
        log_scale(axes, "x")
        log_scale(axes, "y")
        axes.set(xlabel="share of items that pass", ylabel="CPU milliseconds, median")
        figure.legend(loc="outside lower left", ncols=4, handlelength=1, columnspacing=1.2)
        return finish(
            figure,
            name=str(size.items),
            title=title,
            note="An independent filter. The planned way takes the cheaper of the index and the exact search among what passes.",
        )
