"""``rf promote``, ``rf rollback``, ``rf shadow`` and ``rf deployment``: which bundles answer requests."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rf_platform.cli.console import out_console, print_json, say
from rf_platform.cli.options import SERVER, Address, Json, Note, Skew

if TYPE_CHECKING:
    from rf_platform.features.spec import FeatureSpec
    from rf_platform.registry import BundleRecord, DeploymentRecord, TrafficRecord
    from rf_platform.settings import Settings


promote_app = typer.Typer(add_completion=False)
rollback_app = typer.Typer(add_completion=False)
shadow_app = typer.Typer(add_completion=False)
deployment_app = typer.Typer()


@promote_app.command()
def promote(
    name: Annotated[str, typer.Argument(help="Name of the bundle; `rf bundles` lists them.")],
    percent: Annotated[
        float | None,
        typer.Option(help="Only for this percentage of the users, beside the served bundle.", show_default="all users"),
    ] = None,
    skew: Skew = None,
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
    from rf_platform.settings import get_settings
    from rf_serving.deployment.rehearsal import Rehearsal

    registry, features = deployments.Registry.of(), _features_once()
    rehearsal, settings = Rehearsal(get_settings()), get_settings()
    gate = settings.skew_gate if skew is None else skew.value
    said = [] if gate == "off" else _skew_of(settings, gate)
    before = registry.active_bundle()
    if percent is not None:
        traffic = deployments.split(registry, name, percent, note=note, current_spec=features, rehearse=rehearsal)
        notes = [*_notes_on(registry.bundle(name), features), *rehearsal.notes, *said]
        _show_traffic(traffic, before, as_json, notes, name)
        return
    deployment = deployments.promote(registry, name, note=note, current_spec=features, rehearse=rehearsal)
    notes = [*_notes_on(registry.bundle(name), features), *rehearsal.notes, *said]
    _show_deployment(deployment, before, notes, as_json)


@rollback_app.command()
def rollback(
    note: Note = "",
    as_json: Json = False,
) -> None:
    """Go back to the bundle served before the current one; repeated, it goes back further.

    While a challenger has a part of the users (`rf promote NAME --percent N`), this only withdraws the challenger.

    The bundle is checked as `rf promote` checks it; if it cannot be served, the current one stays.
    """
    from rf_platform import registry as deployments
    from rf_platform.settings import get_settings
    from rf_serving.deployment.rehearsal import Rehearsal

    registry, features = deployments.Registry.of(), _features_once()
    before = registry.active_bundle()
    if (withdrawn := registry.traffic.end_split(note)) is not None:
        _show_withdrawn(withdrawn, before, as_json)
        return
    rehearsal = Rehearsal(get_settings())
    deployment = deployments.roll_back(registry, note=note, current_spec=features, rehearse=rehearsal)
    notes = [*_notes_on(registry.bundle(deployment.bundle), features), *rehearsal.notes]
    _show_deployment(deployment, before, notes, as_json)


@shadow_app.command()
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
    from rf_platform.settings import get_settings
    from rf_serving.deployment.rehearsal import Rehearsal

    if stop and name is not None:
        raise UsageError(f"give either --stop or the name of a bundle, not --stop and '{name}'")
    registry, features = deployments.Registry.of(), _features_once()
    notes: list[str] = []
    if stop:
        traffic = registry.traffic.shadow(None, 0.0, note)
    elif name is None:
        traffic = registry.traffic.now()
    else:
        rehearsal = Rehearsal(get_settings())
        traffic = deployments.shadow(registry, name, share, note=note, current_spec=features, rehearse=rehearsal)
        notes = [*_notes_on(registry.bundle(name), features), *rehearsal.notes]
    _show_traffic(traffic, registry.active_bundle(), as_json, notes, name or "")


@deployment_app.command()
def deployment(
    address: Address = SERVER,
    as_json: Json = False,
) -> None:
    """Show what a running server serves: bundles, their share of the users, and how the shadow compares.

    Of a server with several workers, one answers; each follows the registry by itself, within a second or so and the time it
    takes to load a bundle. Exit code 1 if the bundle that was promoted last is refused.
    """
    from google.protobuf.json_format import MessageToDict

    from rf_serving.client import RetrievalClient

    with RetrievalClient(address) as client:
        response = client.deployment()
    if as_json:
        print_json(MessageToDict(response, preserving_proto_field_name=True, always_print_fields_with_no_presence=True))
    else:
        _show(response)
    if response.refused:
        raise typer.Exit(1)


def _show(response: Any) -> None:
    from rich.markup import escape
    from rich.table import Table

    table = Table("", "bundle", "items", "catalog change", "answers")
    split = response.HasField("challenger")
    rows = [("active", response.active, f"{100 - response.split_percent:g}% of the users" if split else "all users")]
    if split:
        rows.append(("challenger", response.challenger, f"{response.split_percent:g}% of the users"))
    if response.HasField("shadow"):
        rows.append(("shadow", response.shadow, "unseen"))
    for role, bundle, answers in rows:
        table.add_row(role, escape(bundle.name), f"{bundle.items:,}", str(bundle.catalog_sequence), answers)
    out_console().print(table)
    if response.policy_version:
        say(f"policy version {response.policy_version}")
    if response.HasField("shadow"):
        report = response.shadow_report
        text = (
            f"shadow: {report.requests:,} requests compared, {report.failed:,} not; it returns {report.overlap:.1%} of the same "
            f"items; median {report.shadow_ms:.2f} ms where the active bundle takes {report.active_ms:.2f} ms"
        )
        say(text)
    if response.refused:
        out_console().print(f"[bold red]refused:[/] {escape(response.refused)}", highlight=False)


def _skew_of(settings: "Settings", gate: str) -> list[str]:
    """Return what a replay of the last requests says; see :func:`~rf_platform.skew.gate.check_skew`."""
    from rf_platform.skew.gate import check_skew

    return check_skew(settings, gate)


def _features_once() -> Callable[[], "FeatureSpec"]:
    """Return a function that reads what the feature store of the workspace offers, when it is called first."""
    from rf_platform.registry.deploy import features_now
    from rf_platform.settings import get_settings

    return cache(lambda: features_now(get_settings()))


def _notes_on(record: "BundleRecord", features: Callable[[], "FeatureSpec"]) -> list[str]:
    """Return how a bundle differs from the feature store that it fits."""
    from rf_platform.registry import check_spec

    return check_spec(record, features()).notes


def _show_deployment(
    deployment: "DeploymentRecord", before: "BundleRecord | None", notes: Sequence[str], as_json: bool
) -> None:
    """Print which bundle is served now, which one was before, and how it differs from the feature store."""
    changed = before is None or before.name != deployment.bundle
    if as_json:
        was = before.name if before else None
        print_json({**asdict(deployment), "before": was, "changed": changed, "notes": list(notes)})
        return
    was = f" (before: {before.name})" if before else ""
    text = f"now serving {deployment.bundle}{was}" if changed else f"{deployment.bundle} is the served bundle already"
    say(text)
    _show_notes(deployment.bundle, notes)


def _show_traffic(
    traffic: "TrafficRecord", served: "BundleRecord | None", as_json: bool, notes: Sequence[str] = (), of: str = ""
) -> None:
    """Print which bundles stand beside the served one, and how the bundle ``of`` differs from the feature store."""
    if as_json:
        print_json({"served": served.name if served else None, **asdict(traffic), "notes": list(notes)})
        return
    name = served.name if served else "nothing"
    lines = [f"serving {name}"]
    if traffic.challenger:
        lines.append(f"challenger {traffic.challenger} answers {traffic.percent:g}% of the users")
    if traffic.shadow:
        lines.append(f"shadow {traffic.shadow} answers {traffic.share:.4g} of the requests unseen")
    if len(lines) == 1:
        lines.append("nothing beside it")
    say("; ".join(lines))
    _show_notes(of, notes)


def _show_withdrawn(challenger: str, served: "BundleRecord | None", as_json: bool) -> None:
    """Print that a split has ended."""
    if as_json:
        print_json({"served": served.name if served else None, "withdrawn": challenger})
        return
    name = served.name if served else "nothing"
    text = f"the challenger {challenger} is withdrawn: {name} answers all users again"
    say(text)


def _show_notes(bundle: str, notes: Sequence[str]) -> None:
    for note in notes:
        say(f"note: {bundle}: {note}", err=True)
