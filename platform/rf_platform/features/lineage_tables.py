"""Growth of the id maps and drift of the statistics, as tables for people."""

from collections.abc import Iterator

from rich.table import Table

from rf_platform.features.lineage import Lineage

NOTABLE_SHIFT, NOTABLE_STRETCH = 0.5, 2.0
"""Numbers are called drifted from half a deviation on, or when their spread has doubled or halved."""


def lineage_tables(lineage: Lineage) -> Iterator[Table | str]:
    """Yield a table of the embedding domains, one of drifted numbers where there are any, and sentences on features."""
    yield _domains(lineage)
    if lineage.new_fields:
        yield (
            f"new features, of which the model knows nothing yet: {', '.join(lineage.new_fields)}; their tokens start at zero, "
            f"so vectors are not exactly what they were"
        )
    if lineage.gone_fields:
        yield (
            f"features the model was trained with and the dataset has not: {', '.join(lineage.gone_fields)}; what it learned "
            f"about them is left out, and vectors change at once"
        )
    if any(_drifted(shift=d.shift, stretch=d.stretch) for d in lineage.drift):
        yield _drift(lineage)


def _domains(lineage: Lineage) -> Table:
    parent = lineage.parent
    table = Table(
        title=f"id maps, version {lineage.version}: those of bundle {parent.bundle} (version {parent.version}), grown to dataset "
        f"{lineage.dataset}",
        title_justify="left",
        caption="known values keep their ids; new ones follow and start as the unknown one; vanished ones keep their rows",
        caption_justify="left",
    )
    table.add_column("domain")
    table.add_column("vocabulary")
    for column in ("rows before", "rows now", "kept", "new", "vanished"):
        table.add_column(column, justify="right")
    for domain in lineage.domains:
        learned = domain.policy == "learned"
        values = [f"{n:,}" if learned else "-" for n in (domain.kept, domain.new, domain.vanished)]
        before = f"{domain.rows_before:,}" if domain.rows_before else "new domain"
        table.add_row(domain.domain, domain.policy, before, f"{domain.rows:,}", *values)
    return table


def _drift(lineage: Lineage) -> Table:
    table = Table(
        title="numbers that have drifted; they go on being standardised by the first training's mean and deviation",
        title_justify="left",
        caption="a new training, without --from, would standardise them anew",
        caption_justify="left",
    )
    table.add_column("feature")
    for column in ("mean kept", "mean now", "deviation kept", "deviation now", "shift in deviations"):
        table.add_column(column, justify="right")
    for each in lineage.drift:
        if _drifted(shift=each.shift, stretch=each.stretch):
            numbers = (each.kept.mean, each.now.mean, each.kept.std, each.now.std)
            table.add_row(each.feature, *(f"{number:.6g}" for number in numbers), f"{each.shift:+.2f}")
    return table


def _drifted(*, shift: float, stretch: float) -> bool:
    return abs(shift) >= NOTABLE_SHIFT or not 1 / NOTABLE_STRETCH < stretch < NOTABLE_STRETCH
