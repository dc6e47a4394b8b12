"""``rf shadow``: let a bundle answer a share of the requests unseen."""

from typing import Annotated

import typer

from rf_platform.cli.options import Json, Note

app = typer.Typer(add_completion=False)


@app.command()
def shadow(
    name: Annotated[
        str | None,
        typer.Argument(help="Name of the bundle; without it, what stands beside the served bundle is shown."),
    ] = None,
    share: Annotated[float, typer.Option(help="Share of the requests, more than 0 and at most 1.")] = 0.1,
    stop: Annotated[bool, typer.Option("--stop", help="End it.")] = False,
    note: Note = "",
    as_json: Json = False,
) -> None:
    """Let a bundle answer a share of the requests unseen, and compare it with the served one.

    Callers get the served bundle's answer, no later than without a shadow: what the shadow has no time for is left out. How
    many items the two agree on and how fast each is: `rf deployment`, and the server's metrics.
    """
    from rf_platform import registry as deployments
    from rf_platform.errors import UsageError
    from rf_platform.registry.commands.deployment import features_once, notes_on, show_traffic
    from rf_platform.settings import get_settings
    from rf_serving.deployment.rehearsal import Rehearsal

    if stop and name is not None:
        raise UsageError(f"give either --stop or the name of a bundle, not --stop and '{name}'")
    registry, features = deployments.Registry.of(), features_once()
    notes: list[str] = []
    if stop:
        traffic = registry.traffic.shadow(None, 0.0, note)
    elif name is None:
        traffic = registry.traffic.now()
    else:
        rehearsal = Rehearsal(get_settings())
        traffic = deployments.shadow(registry, name, share, note=note, current_spec=features, rehearse=rehearsal)
        notes = [*notes_on(registry.bundle(name), features), *rehearsal.notes]
    show_traffic(traffic, registry.active_bundle(), as_json, notes, name or "")
