"""``rf bench console``."""

from typing import Annotated

import typer

from rf_bench.invocation import Invocation, Output
from rf_platform.cli.options import Json

app = typer.Typer()


@app.command()
def console(
    context: typer.Context,
    loads: Annotated[int, typer.Option(min=3, help="Loads of each page.")] = 20,
    output: Output = None,
    as_json: Json = False,
) -> None:
    """Time the pages of the console on the workspace, and what they cost the answers of the server beside it.

    A server and a console run as processes of their own. Each page is loaded over one connection, after a first load that
    builds the index of the catalog. Then users are asked for in a row, in turns with and without a browser that loads pages
    all the time: the ratio of the medians is what a busy console costs a request.

    [bold]Example[/]

        rf --home .rf/demo bench console
    """
    from rf_bench.console.measure import measure
    from rf_bench.report import Report, Table
    from rf_platform.settings import get_settings

    call = Invocation.of(context)
    found = measure(get_settings(), loads)
    columns = {
        "page": "{0.page}",
        "p50": "{0.p50_ms:.1f}",
        "p95": "{0.p95_ms:.1f}",
        "CPU": "{0.cpu_ms:.1f}",
        "kB": "{0.kilobytes:.0f}",
    }
    caption = f"{found.items:,} items, {loads} loads of each page, milliseconds"
    ask = {
        "Retrieve": "{0.name}",
        "p50": "{0.p50_ms:.3f}",
        "p99": "{0.p99_ms:.3f}",
        "CPU a page": "{0.page_cpu_ms:.1f}",
    }
    lead = f"A busy console changes the median of Retrieve by the factor {found.ratio:.3f}."
    Report(
        title="Pages of the console",
        lead=lead,
        results=[*found.pages, *found.answers],
        tables=[Table.of(caption, found.pages, columns), Table.of("one request at a time", found.answers, ask)],
    ).publish(call)
