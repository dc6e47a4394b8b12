"""Say what is served now, after ``rf promote``, ``rf rollback`` and ``rf shadow``."""

from dataclasses import asdict

from rich.markup import escape

from rf_platform.cli.console import out_console, print_json
from rf_platform.registry.records import BundleRecord, DeploymentRecord, TrafficRecord


def show_deployment(deployment: DeploymentRecord, before: BundleRecord | None, as_json: bool) -> None:
    """Print which bundle is served now, and which one was before."""
    changed = before is None or before.name != deployment.bundle
    if as_json:
        print_json({**asdict(deployment), "before": before.name if before else None, "changed": changed})
        return
    was = f" (before: {before.name})" if before else ""
    text = f"now serving {deployment.bundle}{was}" if changed else f"{deployment.bundle} is the served bundle already"
    out_console().print(escape(text), highlight=False, soft_wrap=True)


def show_traffic(traffic: TrafficRecord, served: BundleRecord | None, as_json: bool) -> None:
    """Print which bundles stand beside the served one."""
    if as_json:
        print_json({"served": served.name if served else None, **asdict(traffic)})
        return
    name = served.name if served else "nothing"
    lines = [f"serving {name}"]
    if traffic.challenger:
        lines.append(f"challenger {traffic.challenger} answers {traffic.percent:g}% of the users")
    if traffic.shadow:
        lines.append(f"shadow {traffic.shadow} answers {traffic.share:.4g} of the requests unseen")
    if len(lines) == 1:
        lines.append("nothing beside it")
    out_console().print(escape("; ".join(lines)), highlight=False, soft_wrap=True)


def show_withdrawn(challenger: str, served: BundleRecord | None, as_json: bool) -> None:
    """Print that a split has ended."""
    if as_json:
        print_json({"served": served.name if served else None, "withdrawn": challenger})
        return
    name = served.name if served else "nothing"
    text = f"the challenger {challenger} is withdrawn: {name} answers all users again"
    out_console().print(escape(text), highlight=False, soft_wrap=True)
