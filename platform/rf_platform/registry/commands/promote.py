"""``rf promote``: make a bundle the served one."""

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rf_platform.features.spec import FeatureSpec

app = typer.Typer(add_completion=False)


@app.command()
def promote(
    name: Annotated[str, typer.Argument(help="Name of the bundle; `rf bundles` lists them.")],
    percent: Annotated[
        float | None,
        typer.Option(help="Only for this percentage of the users, beside the served bundle.", show_default="all users"),
    ] = None,
    note: Annotated[str, typer.Option(help="Why, for the history.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Make a bundle the served one, if its files are intact and the feature store still matches it.

    Otherwise the bundle served so far stays. Running servers follow within seconds, without a restart; `rf deployment` shows
    what a server serves. `rf rollback` returns to the earlier bundle.

    With --percent, that share of the users gets the bundle as a challenger, always the same users, and all others the served
    one. Raise it by the same command again; without --percent the challenger takes over, `rf rollback` withdraws it.
    """
    from rf_platform import registry as deployments
    from rf_platform.registry.commands.deployment import show_deployment, show_traffic
    from rf_platform.settings import get_settings

    registry = deployments.Registry.open()
    before = registry.active_bundle()

    def spec() -> "FeatureSpec":
        return deployments.features_now(get_settings())

    if percent is not None:
        show_traffic(deployments.split(registry, name, percent, note=note, current_spec=spec), before, as_json)
        return
    show_deployment(deployments.promote(registry, name, note=note, current_spec=spec), before, as_json)
