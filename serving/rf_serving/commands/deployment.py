"""``rf deployment``: what a running server serves."""

from typing import Any

import typer

from rf_platform.cli.options import SERVER, Address, Json

app = typer.Typer()


@app.command()
def deployment(
    address: Address = SERVER,
    as_json: Json = False,
) -> None:
    """Show what a running server serves: bundles, their share of the users, and how the shadow compares.

    Of a server with several workers, one answers; each follows the registry by itself, within a second or so and the time it
    takes to load a bundle. Exit code 1 if the bundle that was promoted last is refused.
    """
    from google.protobuf.json_format import MessageToDict

    from rf_platform.cli.console import print_json
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

    from rf_platform.cli.console import out_console, say

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
    if response.HasField("shadow"):
        report = response.shadow_report
        text = (
            f"shadow: {report.requests:,} requests compared, {report.failed:,} not; it returns {report.overlap:.1%} of the same "
            f"items; median {report.shadow_ms:.2f} ms where the active bundle takes {report.active_ms:.2f} ms"
        )
        say(text)
    if response.refused:
        out_console().print(f"[bold red]refused:[/] {escape(response.refused)}", highlight=False)
