"""``rf bench catalog``."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer()


@app.command()
def catalog(
    items: Annotated[int, typer.Option(min=1000, help="Items in the bundle.")] = 100_000,
    seconds: Annotated[float, typer.Option(min=1, help="How long items are upserted.")] = 30.0,
    reads: Annotated[float, typer.Option(min=1, help="Retrieve calls a second, on each of the two servers.")] = 100.0,
    upserts: Annotated[float, typer.Option(min=0.1, help="Upserts a second.")] = 10.0,
    batch: Annotated[int, typer.Option(min=1, max=1000, help="Items of an upsert.")] = 10,
    events: Annotated[
        float, typer.Option(min=0, help="Events a second, on both servers in turn; 0 records none.")
    ] = 5.0,
    output: Annotated[
        Path | None,
        typer.Option(help="Directory of the results; default: bench/catalog in the workspace."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Upsert items and record events on one server and see how soon another one, under load as well, answers with them.

    Two server processes follow one registry. The time counts from the acknowledgement of an upsert to the first answer of the
    other server that takes it into account. In the end the items are deleted again. Events are recorded meanwhile, and timed from
    their acknowledgement by one server to the first answer of the other one whose history has them.

    The catalog is synthetic and the model untrained. The workspace is made once and used again.
    """
    import asyncio
    import json
    from dataclasses import asdict

    from rich.table import Table

    from rf_bench.catalog.benchmark import CatalogLoad, measure
    from rf_bench.serve.workspace import ServiceSize, prepare
    from rf_platform.cli.console import out_console, print_json
    from rf_platform.settings import get_settings
    from rf_serving.background import BackgroundServer

    home = get_settings().home
    service = prepare(home / "bench", ServiceSize(items=items, users=1000), None)
    load = CatalogLoad(seconds=seconds, reads=reads, upserts=upserts, batch=batch, events=events)
    workspace = service.settings.home
    with BackgroundServer(workspace) as first, BackgroundServer(workspace) as second:
        found = asyncio.run(measure(first.address, second.address, service.users, service.items, load)).to_dict()
    result = {"items": items, "load": asdict(load), **found}
    output = output or home / "bench" / "catalog"
    output.mkdir(parents=True, exist_ok=True)
    (output / "catalog.json").write_text(json.dumps(result, indent=2) + "\n")
    if as_json:
        print_json(result)
        return
    table = Table(
        "milliseconds",
        "p50",
        "p90",
        "p99",
        "max",
        title=f"{found['items']} items upserted, {found.get('events', 0)} events recorded",
        title_justify="left",
    )
    for name, row in found.items():
        if isinstance(row, dict) and "p50" in row:
            table.add_row(name.replace("_ms", "").replace("_", " "), *(f"{value:.1f}" for value in row.values()))
    out_console().print(table)
