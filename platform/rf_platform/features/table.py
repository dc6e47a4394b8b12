"""A FeatureSpec as a table for people."""

from rich import box
from rich.markup import escape
from rich.table import Table

from rf_platform.features.spec import FeatureSpec, FieldSpec


def spec_table(spec: FeatureSpec) -> Table:
    """Return one row per field, grouped by side and view."""
    table = Table(
        title=f"service {spec.service}: users by {spec.user.join_key} ({spec.user.id_type}), items by "
        f"{spec.item.join_key} ({spec.item.id_type}), history of {spec.history_length}",
        caption=f"{_meanings(spec)}spec {spec.hash}",
        box=box.SIMPLE_HEAD,
        title_style="",
    )
    for column in ("field", "dtype", "role", "kind", "embedding domain"):
        table.add_column(column)
    for side in ("item", "user", "context"):
        views = sorted({f.view for f in spec.fields if f.side == side})
        for view in views:
            table.add_row(f"[bold]{view}[/] ({side})")
            for f in (f for f in spec.fields if f.view == view):
                table.add_row(f"  {f.field}", f.dtype, f.role, *_meaning(spec, f))
            table.add_section()
    return table


def _meanings(spec: FeatureSpec) -> str:
    """Return the declared meanings of events as a line, or nothing where all are wanted."""
    rules = "\n".join(str(rule) for rule in spec.meanings)
    return f"meanings of events, the first that matches; all others are wanted:\n{escape(rules)}\n" if rules else ""


def _meaning(spec: FeatureSpec, f: FieldSpec) -> tuple[str, str]:
    if f.role not in ("feature", "history"):
        return "-", "-"
    if f.domain is None:
        return f.kind, "-"
    return f.kind, f"{'its own' if f.domain == f.name else f.domain}, {spec.domain(f.domain).policy}"
