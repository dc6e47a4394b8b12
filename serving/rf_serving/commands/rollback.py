"""``rf rollback``: go back to the bundle served before."""

import typer

from rf_platform.cli.options import Json, Note

app = typer.Typer(add_completion=False)


@app.command()
def rollback(
    note: Note = "",
    as_json: Json = False,
) -> None:
    """Go back to the bundle served before the current one; repeated, it goes back further.

    While a challenger has a part of the users (`rf promote NAME --percent N`), this only withdraws the challenger.

    The bundle is checked as `rf promote` checks it; if it cannot be served, the current one stays.
    """
    from rf_platform import registry as deployments
    from rf_platform.registry.commands.deployment import features_once, notes_on, show_deployment, show_withdrawn
    from rf_platform.settings import get_settings
    from rf_serving.deployment.rehearsal import Rehearsal

    registry, features = deployments.Registry.of(), features_once()
    before = registry.active_bundle()
    if (withdrawn := registry.traffic.end_split(note)) is not None:
        show_withdrawn(withdrawn, before, as_json)
        return
    rehearsal = Rehearsal(get_settings())
    deployment = deployments.roll_back(registry, note=note, current_spec=features, rehearse=rehearsal)
    notes = [*notes_on(registry.bundle(deployment.bundle), features), *rehearsal.notes]
    show_deployment(deployment, before, notes, as_json)
