"""The chart of `rf bench train`: where the time of a step goes, and what each objective costs."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rf_bench.train.benchmark import TrainResult
from rf_bench.train.rig import PARTS
from rf_bench.train.summary import COMMUNICATION, Throughput
from rf_training.report.drawing import MUTED, REST, SERIES, TEXT, Chart, finish, style

ROW = 0.42
"""Inches of a bar."""


def draw(result: TrainResult) -> Chart:
    """Draw the steps of all rigs, and those of the objectives."""
    steps = [(rig.name, rig) for rig in result.tables.rigs]
    steps += [(f"{rig.name}, {rig.processes} proc.", rig) for rig in result.processes.rigs]
    objectives = [
        (f"{rig.name}, {each.items:,} items", rig) for each in result.objectives for rig in each.compared.rigs
    ]
    with style():
        figure = Figure(figsize=(10.4, 1.5 + ROW * max(len(steps), len(objectives))), layout="constrained")
        left, right = figure.subplots(1, 2)
        _steps(left, steps)
        _objectives(right, objectives)
        return finish(
            figure,
            name="steps",
            title="Where the time of a step goes, and what an objective costs",
            note="Wall time of a step, the median of the rounds.",
            wide=True,
        )


def _steps(axes: Axes, rows: list[tuple[str, Throughput]]) -> None:
    axes.set_title("Where the time of a step goes")
    inks = dict(zip((*PARTS, COMMUNICATION), (SERIES[1], SERIES[0], SERIES[5], SERIES[2], SERIES[3]), strict=True))
    left = [0.0] * len(rows)
    for part, ink in inks.items():
        widths = [rig.step_seconds * rig.shares[part] * 1e3 for _, rig in rows]
        axes.barh(range(len(rows)), widths, left=left, color=ink.light, label=part, height=0.7)
        left = [start + width for start, width in zip(left, widths, strict=True)]
    for row, (_, rig) in enumerate(rows):
        _note(axes, rig.step_seconds * 1e3, row, f"{rig.sequences_per_second:,.0f} seq/s")
    _frame(axes, [name for name, _ in rows])
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=5, handlelength=1.0, columnspacing=1.0)


def _objectives(axes: Axes, rows: list[tuple[str, Throughput]]) -> None:
    axes.set_title("What an objective costs")
    colours = [(REST if rig.name == "full softmax" else SERIES[0]).light for _, rig in rows]
    times = [rig.step_seconds * 1e3 for _, rig in rows]
    axes.barh(range(len(rows)), times, color=colours, height=0.7)
    for row, time in enumerate(times):
        _note(axes, time, row, f"{time:,.0f} ms")
    _frame(axes, [name for name, _ in rows])


def _note(axes: Axes, x: float, row: int, text: str) -> None:
    place = {"xytext": (4, 0), "textcoords": "offset points"}
    axes.annotate(text, (x, row), va="center", fontsize=8.5, color=MUTED.light, **place)  # type: ignore[arg-type]


def _frame(axes: Axes, names: list[str]) -> None:
    axes.set_yticks(range(len(names)), names, color=TEXT.light)
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    axes.set_xlabel("milliseconds a step")
    axes.margins(x=0.18)
