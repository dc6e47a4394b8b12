"""Charts of ``rf bench serve``."""

from matplotlib.figure import Figure

from rf_bench.serve.rounds import Rounds
from rf_bench.serve.tables import P90_MS
from rf_training.report.drawing import MUTED, REST, SERIES, Chart, finish, log_scale, style


def latency_chart(found: Rounds) -> Chart:
    """Draw p50, p90 and p99 of the latency against the rate of calls, a panel for each server."""
    medians = found.medians
    servers = list(dict.fromkeys(each.server for each in medians))
    with style():
        figure = Figure(figsize=(3.6 * len(servers), 3.6), layout="constrained")
        axes = figure.subplots(1, len(servers), squeeze=False, sharey=True)
        for panel, name in zip(axes.flat, servers, strict=True):
            shown = [(each.rate, each.milliseconds) for each in medians if each.server == name and each.milliseconds]
            for ink, percentile in zip(SERIES, ("p50", "p90", "p99"), strict=False):
                values = [milliseconds[percentile] for _, milliseconds in shown]
                rates = [rate for rate, _ in shown]
                panel.plot(rates, values, marker="o", markersize=3, color=ink.light, label=percentile)
            panel.axhline(P90_MS, color=MUTED.light, linewidth=0.8, linestyle=(0, (4, 3)))
            log_scale(panel, "y")
            panel.set(title=name, xlabel="calls a second")
        axes[0, 0].set_ylabel("milliseconds from due to answered")
        axes[0, 0].legend()
        note = (
            f"Medians of the rounds that are not void, from when a call was due; the dashed line is at {P90_MS:g} ms."
        )
        return finish(figure, name="latency", title="Latency by rate", note=note, wide=True)


def stages_chart(found: Rounds) -> list[Chart]:
    """Draw where the time of a call goes at the highest rate that each server kept up with in the first round; or nothing."""
    kept = {  # rates rise: the last one stays
        turn.server: turn.stretch
        for turn in found.turns
        if turn.round == 0 and turn.stretch.keeps_up and turn.stretch.stages
    }
    chosen = {f"{name}, {each.load.rate:g}/s": each.stages for name, each in kept.items()}
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
        note = "Means of the stages at the highest rate that each server kept up with in the first round."
        return [finish(figure, name="stages", title="Stages of a call", note=note)]
