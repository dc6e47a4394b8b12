"""Charts of the trade-off between goals."""

from collections.abc import Mapping
from typing import Any

from rf_training.report.drawing import MUTED, SERIES, Chart, finish, panel


def goal_charts(curve: Mapping[str, Any]) -> list[Chart]:
    """Draw, for each goal beside the commonest one, what answers for mixtures of the two find of the targets of each.

    Args:
        curve: of a run's metrics, see :class:`~rf_training.goal_curve.GoalCurve`.
    """
    first, *others = curve["targets"]
    return [_trade_off(curve["points"], first, other) for other in others]


def _trade_off(points: list[Mapping[str, Any]], first: str, other: str) -> Chart:
    def place(point: Mapping[str, Any]) -> tuple[float, float]:
        return tuple(point["metrics"][name]["ndcg@20"]["value"] for name in (first, other))

    between = [point for point in points if point["goals"] and set(point["goals"]) <= {first, other}]
    title = f"{other} against {first}"
    with panel(title) as (figure, axes):
        axes.plot(*zip(*map(place, between), strict=True), color=SERIES[0].light, marker="o", markersize=4)
        for point in between:
            share = point["goals"].get(other, 0.0) / sum(point["goals"].values())
            axes.annotate(
                f"{share:.0%}", place(point), xytext=(6, 3), textcoords="offset points", color=SERIES[0].light
            )
        for point in points:
            if not point["goals"]:
                axes.plot(*place(point), color=MUTED.light, marker="D", markersize=5)
        axes.set(xlabel=f"NDCG@20, {first} targets", ylabel=f"NDCG@20, {other} targets")
        axes.margins(0.15)
        note = f"At the points: weight of {other} beside {first}. The diamond is the answer where no goal is asked for."
        return finish(figure, name=f"goals-{other}".replace(" ", "-"), title=title, note=note)
