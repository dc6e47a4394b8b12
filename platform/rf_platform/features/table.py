"""A FeatureSpec as a table for people."""

from rich.table import Table

from rf_platform.features.spec import FeatureSpec


def spec_table(spec: FeatureSpec) -> Table:
    """Return one row per field, grouped by side."""
    table = Table(
        title=f"service {spec.service} · users by {spec.user.join_key} ({spec.user.id_type}) · items by "
        f"{spec.item.join_key} ({spec.item.id_type}) · history of {spec.history_length}",
        caption=f"spec {spec.hash}",
    )
    for column in ("side", "feature", "dtype", "role", "kind", "embedding domain"):
        table.add_column(column, overflow="fold")
    for side in ("item", "user", "context"):
        for f in (f for f in spec.fields if f.side == side):
            kind = f.kind if f.role in ("feature", "history") else "-"
            domain = "-"
            if f.domain:
                own = f.domain == f.name
                domain = f"{'(its own)' if own else f.domain}, {spec.domain(f.domain).policy}"
            table.add_row(side, f"{f.view}.{f.field}", f.dtype, f.role, kind, domain)
        table.add_section()
    return table
