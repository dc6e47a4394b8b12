"""Charts of ``rf bench serve``."""

from matplotlib.figure import Figure

from rf_bench.serve.sweep import LIMITS, Capacity
from rf_training.report.drawing import MUTED, REST, SERIES, Chart, finish, style


def latency_chart(capacities: dict[str, Capacity]) -> Chart:
    """Draw p50, p90 and p99 of the latency against the rate of calls, a panel for each server."""
    with style():
        figure = Figure(figsize=(4.6 * len(capacities), 3.6), layout="constrained")
        axes = figure.subplots(1, len(capacities), squeeze=False, sharey=True)
        for panel, (name, capacity) in zip(axes.flat, capacities.items(), strict=True):
            rates = [each.load.rate for each in capacity.stretches]
            for ink, percentile in zip(SERIES, (50, 90, 99), strict=False):
                values = [each.load.percentile(percentile) for each in capacity.stretches]
                panel.plot(rates, values, marker="o", markersize=3, color=ink.light, label=f"p{percentile}")
            for limit in LIMITS:
                panel.axhline(limit.milliseconds, color=MUTED.light, linewidth=0.8, linestyle=(0, (4, 3)))
            panel.set(title=name, xlabel="calls a second", yscale="log")
        axes[0, 0].set_ylabel("milliseconds from due to answered")
        axes[0, 0].legend()
        return finish(
            figure,
            name="latency",
            title="Latency by rate",
            note="From when a call was due to its answer; the dashed lines are the limits.",
            wide=True,
        )


def stages_chart(capacities: dict[str, Capacity]) -> list[Chart]:
    """Draw where the time of a call goes at the highest rate that keeps the first limit; nothing where no server does."""
    chosen = {}
    for name, capacity in capacities.items():
        rate = capacity.within[str(LIMITS[0])]
        found = [each for each in capacity.stretches if each.load.rate == rate and each.stages]
        if found:
            chosen[name] = found[0].stages
    if not chosen:
        return []
    with style():
        figure = Figure(figsize=(6.4, 0.9 + 0.5 * len(chosen)), layout="constrained")
        axes = figure.subplots()
        names = list(dict.fromkeys(stage for stages in chosen.values() for stage in stages))
        left = [0.0] * len(chosen)
        for ink, stage in zip((*SERIES, REST), names, strict=False):
            width = [stages.get(stage, 0.0) for stages in chosen.values()]
            axes.barh(list(chosen), width, left=left, color=ink.light, label=stage)
            left = [a + b for a, b in zip(left, width, strict=True)]
        axes.set_xlabel("milliseconds, mean of a call")
        axes.legend(ncols=len(names), loc="upper center", bbox_to_anchor=(0.5, -0.35))
        note = f"Means of the stages at the highest rate with {LIMITS[0]}."
        return [finish(figure, name="stages", title="Stages of a call", note=note)]
