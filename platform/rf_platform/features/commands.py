"""``rf features``: apply, materialize, show."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from rf_platform.cli.console import out_console, print_json, say, warn
from rf_platform.cli.options import Json
from rf_platform.settings import get_settings

if TYPE_CHECKING:
    from rich.table import Table

    from rf_platform.features.spec import FeatureSpec, FieldSpec

app = typer.Typer(no_args_is_help=True, help="Apply, materialise and show feature definitions.")


@app.command()
def apply(as_json: Json = False) -> None:
    """Register the definitions of the Feast repository (entities, views, services) and check that the model can use them.

    The repository is RF_FEATURE_REPO, or the one that belongs to the imported tables. Add a feature view, name it in the
    service `retrieval`, and run this again: dataset, model and bundle follow without a change of code. A bundle that is served
    and does not fit the definitions any more is named in a warning: take the change back before features are materialised.
    """
    from rf_platform.features.apply import apply_definitions

    applied = apply_definitions(get_settings())
    _warn_of_misfits(applied.definitions.spec)
    if as_json:
        print_json(
            {
                "entities": applied.entities,
                "feature_views": applied.feature_views,
                "feature_services": applied.feature_services,
                "spec_hash": applied.definitions.spec.hash,
            }
        )
        return
    say(
        f"registered {len(applied.entities)} entities, {len(applied.feature_views)} feature views, "
        f"{len(applied.feature_services)} feature services; spec {applied.definitions.spec.hash[:12]}"
    )


def _warn_of_misfits(spec: "FeatureSpec") -> None:
    """Name the bundles in use that read what the definitions no longer have."""
    from rf_platform.doctor.stores import existing_registry
    from rf_platform.errors import ConfigError, RfError
    from rf_platform.registry import check_spec

    try:
        registry = existing_registry(get_settings())
        plan = None if registry is None else registry.traffic.plan()
    except RfError:  # a matter for `rf serve` and `rf doctor`
        return
    for record in (plan.active, plan.challenger, plan.shadow) if plan is not None else ():
        try:
            if record is not None:
                check_spec(record, spec)
        except ConfigError as error:
            warn(str(error))
        except RfError:
            continue


@app.command()
def materialize(
    view: Annotated[
        list[str] | None,
        typer.Option(help="Only this feature view. Repeatable; default: all of the service.", show_default=False),
    ] = None,
    as_json: Json = False,
) -> None:
    """Load the latest value of every feature into the online store, where the server reads them.

    The server reads users' views only; the features of items are in the bundle, so a large catalog can be left out with --view.
    """
    from rf_platform.features.materialize import materialize as run

    done = run(get_settings(), view or ())
    for warning in (warning for m in done for warning in m.warnings):
        warn(warning)
    if as_json:
        print_json([asdict(m) for m in done])
        return
    for m in done:
        gone = f", {m.removed:,} removed that its file does not have" if m.removed else ""
        say(f"{m.view}: {m.rows:,} rows in {m.seconds:.1f} s{gone}")


@app.command()
def show(as_json: Json = False) -> None:
    """Show what the model is built from: every field's side, kind, role, embedding domain and cardinality policy."""
    from rf_platform.features.read import read_definitions
    from rf_platform.features.store import open_store

    settings = get_settings()
    spec = read_definitions(open_store(settings), settings.feature_service).spec
    if as_json:
        print_json({**spec.to_dict(), "hash": spec.hash})
        return
    out_console().print(_spec_table(spec))


def _spec_table(spec: "FeatureSpec") -> "Table":
    """Return one row per field, grouped by side and view."""
    from rich import box
    from rich.table import Table

    table = Table(
        title=f"service {spec.service}: users by {spec.user.join_key} ({spec.user.id_type}), items by "
        f"{spec.item.join_key} ({spec.item.id_type}), history of {spec.history_length}",
        caption=f"{_meanings(spec)}{_weights(spec)}spec {spec.hash}",
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


def _meanings(spec: "FeatureSpec") -> str:
    """Return the declared meanings of events as a line, or nothing where all are wanted."""
    from rich.markup import escape

    rules = "\n".join(str(rule) for rule in spec.meanings)
    return f"meanings of events, the first that matches; all others are wanted:\n{escape(rules)}\n" if rules else ""


def _weights(spec: "FeatureSpec") -> str:
    """Return the declared weights of events as a line, or nothing where all weigh the same."""
    from rich.markup import escape

    return "" if spec.weights is None else f"weights of events as targets of training: {escape(str(spec.weights))}\n"


def _meaning(spec: "FeatureSpec", f: "FieldSpec") -> tuple[str, str]:
    if f.role not in ("feature", "history"):
        return "-", "-"
    if f.domain is None:
        return f.kind, "-"
    return f.kind, f"{'its own' if f.domain == f.name else f.domain}, {spec.domain(f.domain).policy}"
