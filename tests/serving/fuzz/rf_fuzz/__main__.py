"""``make fuzz``, or ``python -m rf_fuzz``: random and malformed requests to every method."""

from pathlib import Path
from typing import Annotated, Any

import typer

from rf_platform.cli import main
from rf_platform.cli.options import Json

app = typer.Typer()


@app.command()
def fuzz(
    requests: Annotated[int, typer.Option(min=0, help="How many requests over gRPC.")] = 20_000,
    http_requests: Annotated[int, typer.Option(min=0, help="How many over HTTP with JSON.")] = 8_000,
    seed: Annotated[int, typer.Option(help="The same seed gives the same requests.")] = 0,
    together: Annotated[int, typer.Option(min=1, help="Requests at a time.")] = 16,
    output: Annotated[Path | None, typer.Option(help="Also write the JSON to this file.", show_default=False)] = None,
    as_json: Json = False,
) -> None:
    """Send random and malformed requests to all services of a server: none may crash it, and none may be called its own error.

    The server is started for this, on a copy of the workspace: some of the requests are valid, and change the catalog and record
    events. Exit code 1 if an answer is INTERNAL, UNKNOWN, UNAVAILABLE, DATA_LOSS or 5xx, tells of the code inside, or is none.
    """
    import json

    from rf_fuzz.run import run
    from rf_platform.cli.console import print_json
    from rf_platform.settings import get_settings

    result = run(get_settings(), requests, http_requests, seed, together)
    if output is not None:
        output.write_text(json.dumps(result, indent=2) + "\n")
    if as_json:
        print_json(result)
    else:
        _show(result)
    if result["violations"]:
        raise typer.Exit(1)


def _show(result: dict[str, Any]) -> None:
    from rich.table import Table

    from rf_platform.cli.console import out_console, say

    table = Table("method", "status", "requests")
    for name, count in result["statuses"].items():
        table.add_row(*name.split(" "), f"{count:,}")
    out_console().print(table)
    memory = result["server_memory_mib"]
    text = (
        f"{result['requests']:,} requests in {result['seconds']:.0f} s, {len(result['violations'])} violations; the server's "
        f"memory went from {memory['before']:.0f} to {memory['after']:.0f} MiB"
    )
    say(text)
    for violation in result["violations"][:10]:
        say(violation)


if __name__ == "__main__":
    main(app)
