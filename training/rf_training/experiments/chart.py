"""The plot of an ablation: a panel for each group, in which every variant lies left or right of the base."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from rf_platform.files import new_file
from rf_training.evaluation.sampled import LABELS
from rf_training.experiments.results import AblationResult, Arm, GroupResult
from rf_training.report.drawing import MUTED, PNG_DPI, REST, SERIES, TEXT, style

PANEL_WIDTH = 5.2
ROW_HEIGHT = 0.27
"""Inches of an arm."""
FRAME_HEIGHT = 1.0
"""Inches of a panel's title and axis."""
SPREAD = -0.28
"""Offset of the bar of the seeds' spread, in rows from that of the interval."""

BETTER, WORSE = SERIES[0], SERIES[1]


def draw(result: AblationResult, path: Path) -> list[Path]:
    """Write the plot as PNG, and as SVG beside it; returns both files.

    Without cold targets two groups share a row of the figure; with them a row is one group, warm left and cold right.
    """
    kinds = ["warm", "cold"] if result.has_cold else ["all"]
    panels = [(group, kind) for group in result.groups for kind in kinds]
    columns = min(2, len(panels))
    lines = [panels[i : i + columns] for i in range(0, len(panels), columns)]
    heights = [FRAME_HEIGHT + ROW_HEIGHT * max(len(group.arms) for group, _ in line) for line in lines]
    with style():
        figure = Figure(figsize=(PANEL_WIDTH * columns, sum(heights) + 0.7), layout="constrained")
        figure.get_layout_engine().set(hspace=0.03, wspace=0.04)  # type: ignore[union-attr, call-arg]
        grid = figure.subplots(len(lines), columns, squeeze=False, gridspec_kw={"height_ratios": heights})
        for axes, (group, kind) in zip(grid.flat, panels, strict=False):
            _panel(axes, group, kind, result)
        for axes in grid.flat[len(panels) :]:
            axes.set_axis_off()
        _key(figure, result)
        figure.draw_without_rendering()
        figure.set_layout_engine("none")  # it is settled: once for both files
        files = [path, path.with_suffix(".svg")]
        with new_file(files[0]) as png, new_file(files[1]) as svg:
            figure.savefig(png, format="png", dpi=PNG_DPI, facecolor="white")
            figure.savefig(svg, format="svg", facecolor="white", metadata={"Date": None})
    return files


def _panel(axes: Axes, group: GroupResult, kind: str, result: AblationResult) -> None:
    axes.set_title(group.title + (f", {kind} targets" if result.has_cold else ""))
    axes.axvline(0, color=MUTED.light, linewidth=1, linestyle=(0, (4, 3)))
    for row, arm in enumerate(group.arms):
        _arm(axes, row, arm, kind, result)
    axes.set_yticks(range(len(group.arms)), [arm.name for arm in group.arms], color=TEXT.light)
    for label, arm in zip(axes.get_yticklabels(), group.arms, strict=True):
        label.set_fontweight("bold" if arm.base else "normal")
    axes.set_ylim(len(group.arms) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")
    low, high = axes.get_xlim()
    if max(-low, high) < 1e-4 or not _differences(group.arms, kind, result.metric):
        low, high = -1e-3, 1e-3
    axes.set_xlim(low - 0.04 * (high - low), high + 0.04 * (high - low))
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: "0" if abs(value) < 1e-12 else f"{value:+.10g}"))
    axes.set_xlabel(f"difference in {LABELS[result.metric]} from the base, in bold")


def _arm(axes: Axes, row: int, arm: Arm, kind: str, result: AblationResult) -> None:
    """Draw one arm: its difference with the interval, and its own value at the right margin."""
    score = arm.targets.get(kind, {}).get(result.metric)
    text = "not trained" if score is None else f"{score.value:.4f}"
    axes.annotate(
        text,
        (1, row),
        xycoords=axes.get_yaxis_transform(),
        xytext=(6, 0),
        textcoords="offset points",
        va="center",
        fontsize=9,
        color=MUTED.light,
        fontweight="bold" if arm.base and score is not None else "normal",
    )
    if score is None:
        return
    if arm.base:
        axes.plot([0], [row], "D", color=TEXT.light, markersize=5.5, clip_on=False, zorder=3)
    d = score.difference
    if score.spread is not None:
        center = 0.0 if d is None else d.value
        axes.plot(
            [center - score.spread, center + score.spread],
            [row + SPREAD] * 2,
            color=REST.light,
            linewidth=1.4,
        )
    if d is not None:
        ink = BETTER if d.low > 0 else WORSE if d.high < 0 else MUTED
        axes.plot([d.low, d.high], [row, row], color=ink.light, linewidth=2, alpha=0.55)
        settled = ink is not MUTED
        axes.plot(
            [d.value], [row], "o", color=ink.light, markerfacecolor=ink.light if settled else "white", markersize=5.5
        )


def _differences(arms: Sequence[Arm], kind: str, metric: str) -> list[float]:
    scores = [arm.targets[kind][metric] for arm in arms if kind in arm.targets]
    return [score.difference.value for score in scores if score.difference is not None]


def _key(figure: Figure, result: AblationResult) -> None:
    """Explain the marks in one line above the panels."""
    # drawn off the panels: only their looks are wanted
    axes = figure.axes[0]
    handles = [
        axes.plot([], [], "D", color=TEXT.light, markersize=5.5, label="base")[0],
        axes.plot([], [], "o-", color=BETTER.light, markersize=5.5, label="better")[0],
        axes.plot([], [], "o-", color=WORSE.light, markersize=5.5, label="worse")[0],
        axes.plot([], [], "o-", color=MUTED.light, markerfacecolor="white", markersize=5.5, label="not settled")[0],
    ]
    if len(result.seeds) > 1:
        handles.append(axes.plot([], [], color=REST.light, linewidth=1.4, label="± deviation of seeds")[0])
    figure.legend(handles=handles, loc="outside upper left", ncols=len(handles), handlelength=1.6, columnspacing=1.4)
    figure.supxlabel(
        f"Lines: paired {result.confidence:.0%} bootstrap intervals over users. Right: {LABELS[result.metric]} on the "
        f"{result.split} split, seen items excluded.",
        fontsize=8.5,
        color=MUTED.light,
        x=0.01,
        ha="left",
    )
