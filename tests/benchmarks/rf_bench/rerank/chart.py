"""The charts of ``rf bench rerank``."""

from collections.abc import Callable, Mapping, Sequence
from itertools import cycle

from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter

from rf_bench.rerank.measure import Measured
from rf_bench.rerank.options import FULL
from rf_bench.rerank.summary import AT_CANDIDATES, AT_HISTORY, LIME
from rf_training.report.drawing import MUTED, SERIES, Chart, Ink, finish, log_scale, panel

INKS: Mapping[str, Ink] = {**dict(zip(LIME, cycle(SERIES))), FULL: MUTED}
NAMES = {**{kind: kind.upper() for kind in LIME}, FULL: "full ranker"}


def draw(measured: Sequence[Measured], limit: float) -> list[Chart]:
    """Draw what was measured; ``limit`` is the most seconds of a request."""
    history = min(AT_HISTORY, max(each.history for each in measured))
    candidates = min(AT_CANDIDATES, max(each.candidates for each in measured))
    by_candidates = [each for each in measured if each.history == history]
    by_history = [each for each in measured if each.candidates == candidates]
    full = {each.candidates: each.total for each in by_candidates if each.kind == FULL}
    faster = [each for each in by_candidates if each.kind in LIME and each.candidates in full]
    return [
        _chart(
            by_candidates,
            "candidates",
            "Cost by candidates",
            f"CPU time of a request with a history of {history:,} on one thread; the thin line is what does not depend on the "
            "candidates and is computed while the index is searched.",
        ),
        _chart(
            by_history,
            "history",
            "Cost by history",
            f"CPU time of a request with {candidates:,} candidates on one thread; the thin line is what does not depend on them. "
            f"Requests that would take more than {limit:g} s were not measured.",
        ),
        _chart(
            faster,
            "candidates",
            "Times faster than the full ranker",
            f"Ratio of medians with a history of {history:,}, all kinds in turns.",
            name="speedup",
            ratio=lambda each: full[each.candidates] / each.total,
        ),
    ]


def _chart(
    measured: Sequence[Measured],
    axis: str,
    title: str,
    note: str,
    name: str | None = None,
    ratio: Callable[[Measured], float] | None = None,
) -> Chart:
    with panel(title) as (figure, axes):
        for kind, ink in INKS.items():
            some = [each for each in measured if each.kind == kind]
            if not some:
                continue
            places = [getattr(each, axis) for each in some]
            values = [ratio(each) if ratio else each.total for each in some]
            axes.plot(places, values, color=ink.light, marker="o", markersize=3.5, label=NAMES[kind])
            if ratio is None:
                axes.plot(places, [each.cpu_ms["user"] for each in some], color=ink.light, linewidth=0.8)
        _frame(axes, sorted({getattr(each, axis) for each in measured}))
        axes.set(xlabel=axis, ylabel="times" if ratio else "CPU milliseconds, median")
        figure.legend(loc="outside lower left", ncols=3, handlelength=1, columnspacing=1.2)
        return finish(figure, name=name or axis, title=title, note=note)


def _frame(axes: Axes, places: list[int]) -> None:
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_locator(FixedLocator(places[::2]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    log_scale(axes, "y")
