"""``rf promote``: make a bundle the served one."""

from typing import Annotated

import typer

from rf_platform.cli.options import Json, Note

app = typer.Typer(add_completion=False)


@app.command()
def promote(
    name: Annotated[str, typer.Argument(help="Name of the bundle; `rf bundles` lists them.")],
    percent: Annotated[
        float | None,
        typer.Option(help="Only for this percentage of the users, beside the served bundle.", show_default="all users"),
    ] = None,
    note: Note = "",
    as_json: Json = False,
) -> None:
    """Make a bundle the served one, if its files are intact and the feature store still offers all that it reads.

    The changes of the live catalog are tried on it first, as a server does it; items that it cannot have as they were recorded
    are named.

    Otherwise the bundle served so far stays. Running servers follow within seconds, without a restart; `rf deployment` shows
    what a server serves. `rf rollback` returns to the earlier bundle.

    With --percent, that share of the users gets the bundle as a challenger, always the same users, and all others the served
    one. Raise it by the same command again; without --percent the challenger takes over, `rf rollback` withdraws it.
    """
    from rf_platform import registry as deployments
    from rf_platform.registry.commands.deployment import features_once, notes_on, show_deployment, show_traffic
    from rf_platform.settings import get_settings
    from rf_serving.deployment.rehearsal import Rehearsal

    registry, features = deployments.Registry.of(), features_once()
    rehearsal = Rehearsal(get_settings())
    before = registry.active_bundle()
    if percent is not None:
        traffic = deployments.split(registry, name, percent, note=note, current_spec=features, rehearse=rehearsal)
        show_traffic(traffic, before, as_json, [*notes_on(registry.bundle(name), features), *rehearsal.notes], name)
        return
    deployment = deployments.promote(registry, name, note=note, current_spec=features, rehearse=rehearsal)
    show_deployment(deployment, before, [*notes_on(registry.bundle(name), features), *rehearsal.notes], as_json)
