"""The arrival curve as a table, for the terminal and for Markdown."""

from rich.console import Group, RenderableType
from rich.text import Text

from rf_training.evaluation.rendering import NONE, Cell, Section, section_markdown, section_table
from rf_training.fold_in.arrivals import ArrivalCurve, ArrivalRow


def curve_table(curve: ArrivalCurve) -> RenderableType:
    """Return the table for a terminal; below each figure stands half the width of its interval."""
    section = _section(curve)
    return Group(Text(section.title, style="italic"), section_table(section), _caption(curve, "± is half the width of"))


def curve_markdown(curve: ArrivalCurve) -> str:
    """Return the table in Markdown, each figure with the bounds of its interval."""
    section = _section(curve)
    return f"### {section.title}\n\n{section_markdown(section)}\n\n{_caption(curve, 'Brackets are')}\n"


def _section(curve: ArrivalCurve) -> Section:
    return Section(
        title=f"Arrival curve, {curve.split} targets: Recall@20, seen items excluded, by first events of new items",
        columns=("events known", "warm", "cold", "cold among cold", "warm = cold", "at shift"),
        rows=tuple((f"{row.events}", _cells(row)) for row in curve.rows),
    )


def _cells(row: ArrivalRow) -> tuple[Cell, ...]:
    return (
        f"{row.known:.1f}",
        NONE if row.warm is None else row.warm,
        row.cold,
        row.among_cold,
        NONE if row.parity is None else f"{row.parity:.4f}",
        NONE if row.parity_shift is None else f"{row.parity_shift:+.3f}",
    )


def _caption(curve: ArrivalCurve, interval: str) -> str:
    order = (
        "in the order of time, for each case those before it"
        if curve.clock
        else f"of other users in a random order (seed {curve.seed}), for want of times"
    )
    return (
        f"{curve.warm_targets:,} warm and {curve.cold_targets:,} cold targets among all {curve.items:,} items, "
        f"{curve.cold_items:,} of them cold; events count {order}; "
        f"content counts as {curve.prior:g} users. {interval} the 95% bootstrap interval over users "
        f"({curve.resamples} resamples)."
    )
