"""``rf promote``: make a bundle the served one."""

from typing import Annotated

import typer

app = typer.Typer(add_completion=False)


@app.command()
def promote(
    name: Annotated[str, typer.Argument(help="Name of the bundle; `rf bundles` lists them.")],
    note: Annotated[str, typer.Option(help="Why, for the history.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Make a bundle the served one, if its files are intact and the feature store still matches it.

    Otherwise the bundle served so far stays. `rf rollback` returns to it later.
    """
    from rf_platform import registry as deployments
    from rf_platform.registry.commands.deployment import show_deployment
    from rf_platform.settings import get_settings

    registry = deployments.Registry.open()
    before = registry.active_bundle()
    deployment = deployments.promote(
        registry, name, note=note, current_spec=lambda: deployments.features_now(get_settings())
    )
    show_deployment(deployment, before, as_json)
