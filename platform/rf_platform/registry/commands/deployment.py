"""Say what is served now, after ``rf promote`` and ``rf rollback``."""

from dataclasses import asdict

from rich.markup import escape

from rf_platform.cli.console import out_console, print_json
from rf_platform.registry.records import BundleRecord, DeploymentRecord


def show_deployment(deployment: DeploymentRecord, before: BundleRecord | None, as_json: bool) -> None:
    """Print which bundle is served now, and which one was before."""
    changed = before is None or before.name != deployment.bundle
    if as_json:
        print_json({**asdict(deployment), "before": before.name if before else None, "changed": changed})
        return
    was = f" (before: {before.name})" if before else ""
    text = f"now serving {deployment.bundle}{was}" if changed else f"{deployment.bundle} is the served bundle already"
    out_console().print(escape(text), highlight=False, soft_wrap=True)
