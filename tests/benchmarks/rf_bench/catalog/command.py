"""``rf bench catalog``."""

from typing import Annotated

import typer

from rf_bench.invocation import Invocation, Output
from rf_platform.cli.options import Json

app = typer.Typer()


@app.command()
def catalog(
    context: typer.Context,
    items: Annotated[int, typer.Option(min=1000, help="Items in the bundle.")] = 100_000,
    seconds: Annotated[float, typer.Option(min=1, help="How long items are upserted.")] = 30.0,
    reads: Annotated[float, typer.Option(min=1, help="Retrieve calls a second, on each of the two servers.")] = 100.0,
    upserts: Annotated[float, typer.Option(min=0.1, help="Upserts a second.")] = 10.0,
    batch: Annotated[int, typer.Option(min=1, max=1000, help="Items of an upsert.")] = 10,
    events: Annotated[
        float, typer.Option(min=0, help="Events a second, on both servers in turn; 0 records none.")
    ] = 5.0,
    output: Output = None,
    as_json: Json = False,
) -> None:
    """Upsert items and record events on one server and see how soon another one, under load as well, answers with them.

    Two server processes follow one registry. The time counts from the acknowledgement of an upsert to the first answer of the
    other server that takes it into account. In the end the items are deleted again. Events are recorded meanwhile, and timed from
    their acknowledgement by one server to the first answer of the other one with a history that has them.

    The catalog is synthetic and the model untrained. The workspace is made once and used again.
    """
    import asyncio

    from rf_bench.catalog.benchmark import CatalogLoad, measure
    from rf_bench.report import Report, Table
    from rf_bench.serve.workspace import ServiceSize, prepare
    from rf_platform.settings import get_settings
    from rf_serving.background_server import BackgroundServer

    call = Invocation.of(context)
    service = prepare(get_settings().home / "bench", ServiceSize(items=items, users=1000), None)
    load, workspace = call.options(CatalogLoad), service.settings.home
    with BackgroundServer(workspace) as first, BackgroundServer(workspace) as second:
        found = asyncio.run(measure(first.address, second.address, service.users, service.items, load)).figures()
    caption = f"{found.items} items upserted, {found.events} events recorded; milliseconds"
    columns = {"": "{0[0]}", **{name: f"{{0[1].{name}:.1f}}" for name in ("p50", "p90", "p99", "max")}}
    Report(
        title="Live catalog",
        lead="From the acknowledgement of a change by one server to the first answer of another one that takes it into account.",
        results=found,
        tables=[Table.of(caption, found.milliseconds.items(), columns)],
    ).publish(call)
