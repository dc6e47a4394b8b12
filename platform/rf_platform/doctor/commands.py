"""``rf doctor``: show the settings and check the installation, the stores and the served bundle."""

from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from rf_platform.cli.options import Json

if TYPE_CHECKING:
    from rf_platform.doctor.check import CheckResult
    from rf_platform.settings import Settings

app = typer.Typer(add_completion=False)

_COLOURS = {"ok": "green", "warn": "yellow", "fail": "bold red"}


@app.command()
def doctor(as_json: Json = False) -> None:
    """Check the installation, the stores and the served bundle; say what to do about what is wrong.

    Nothing is changed. Exit code 1 if a check fails; a warning is something missing that is not needed yet, or unusual.
    """
    from rf_platform.cli.console import print_json, track
    from rf_platform.doctor.check import Status, run_checks
    from rf_platform.doctor.checks import CHECKS
    from rf_platform.settings import get_settings

    settings = get_settings()
    results: list[CheckResult] = []
    with track("checking", total=len(CHECKS)) as tracker:
        for result in run_checks(CHECKS, settings):
            results.append(result)
            tracker.advance(note=result.name)
    failed = any(result.status is Status.FAIL for result in results)
    values = shown_settings(settings)
    if as_json:
        print_json({"ok": not failed, "settings": values, "checks": [asdict(result) for result in results]})
    else:
        _show(values, results)
    if failed:
        raise typer.Exit(1)


def shown_settings(settings: "Settings") -> dict[str, str]:
    """Return the settings by environment variable, fit for printing: without passwords."""
    from rf_platform.redaction import without_password

    return {
        f"RF_{name.upper()}": "default" if value is None else without_password(str(value)) for name, value in settings
    }


def _show(values: dict[str, str], results: "list[CheckResult]") -> None:
    from rich.markup import escape
    from rich.table import Table

    from rf_platform.cli.console import out_console, say

    for name, value in values.items():
        say(f"{name}={value}")
    table = Table("", "check", "found", "remedy")
    for result in results:
        status = f"[{_COLOURS[result.status]}]{result.status}[/]"
        table.add_row(status, escape(result.name), escape(result.detail), escape(result.remedy))
    out_console().print(table)
