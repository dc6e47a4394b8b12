"""``rf rollback``: go back to the bundle served before."""

from typing import Annotated

import typer

app = typer.Typer(add_completion=False)


@app.command()
def rollback(
    note: Annotated[str, typer.Option(help="Why, for the history.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Go back to the bundle served before the current one; repeated, it goes back further.

    While a challenger has a part of the users (`rf promote NAME --percent N`), this only withdraws the challenger.

    The bundle is checked as `rf promote` checks it; if it cannot be served, the current one stays.
    """
    from rf_platform import registry as deployments
    from rf_platform.registry.commands.deployment import show_deployment, show_withdrawn
    from rf_platform.settings import get_settings

    registry = deployments.Registry.open()
    before = registry.active_bundle()
    if (withdrawn := registry.traffic.end_split(note)) is not None:
        show_withdrawn(withdrawn, before, as_json)
        return
    deployment = deployments.roll_back(
        registry, note=note, current_spec=lambda: deployments.features_now(get_settings())
    )
    show_deployment(deployment, before, as_json)
