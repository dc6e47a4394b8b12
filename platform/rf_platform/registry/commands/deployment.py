"""Say what is served now, after ``rf promote``, ``rf rollback`` and ``rf shadow``."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import cache

from rf_platform.cli.console import print_json, say
from rf_platform.features.spec import FeatureSpec
from rf_platform.registry.deploy import check_spec, features_now
from rf_platform.registry.records import BundleRecord, DeploymentRecord, TrafficRecord
from rf_platform.settings import get_settings


def features_once() -> Callable[[], FeatureSpec]:
    """Return a function that reads what the feature store of the workspace offers, when it is called first."""
    return cache(lambda: features_now(get_settings()))


def notes_on(record: BundleRecord, features: Callable[[], FeatureSpec]) -> list[str]:
    """Return how a bundle differs from the feature store that it fits."""
    return check_spec(record, features()).notes


def show_deployment(
    deployment: DeploymentRecord, before: BundleRecord | None, notes: Sequence[str], as_json: bool
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


def show_traffic(
    traffic: TrafficRecord, served: BundleRecord | None, as_json: bool, notes: Sequence[str] = (), of: str = ""
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


def show_withdrawn(challenger: str, served: BundleRecord | None, as_json: bool) -> None:
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
