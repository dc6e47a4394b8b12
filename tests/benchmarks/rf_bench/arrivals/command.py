"""``rf bench arrivals``."""

from typing import Annotated

import typer

from rf_bench.invocation import Invocation, Output
from rf_platform.cli.options import Json

app = typer.Typer()

START_SECONDS = 600.0
"""Longest wait for a server on a busy machine."""
PROMISED_SECONDS = 5.0
"""From an event to searchable, docs/live-catalog.md."""


@app.command()
def arrivals(
    context: typer.Context,
    items: Annotated[int, typer.Option(min=1000, help="Items in the bundle.")] = 20_000,
    seconds: Annotated[float, typer.Option(min=1, help="How long events are sent.")] = 30.0,
    events: Annotated[float, typer.Option(min=1, help="Events a second, on one of the two servers.")] = 1000.0,
    probes: Annotated[int, typer.Option(min=1, max=500, help="New items, each with one event meanwhile.")] = 20,
    output: Output = None,
    as_json: Json = False,
) -> None:
    """Send a flood of events to one server and see how soon a new item has moved by its first event on another one.

    Two server processes follow one registry. The time counts from the acknowledgement of the item's event by the first server to
    the first answer of the second one in which its score has changed. The same flood is sent before, without items that learn
    (RF_FIRST_EVENTS=false): the difference in CPU time is what learning costs.

    The catalog is synthetic. The workspace is made once and used again; recorded events stay in it.
    """
    import asyncio
    from dataclasses import replace

    from rf_bench.arrivals.measure import ArrivalLoad, Learned, Watched, measure
    from rf_bench.catalog.benchmark import Percentiles
    from rf_bench.report import Report, Table
    from rf_bench.serve.workspace import ServiceSize, prepare
    from rf_platform.settings import get_settings
    from rf_serving.background_server import BackgroundServer

    call = Invocation.of(context)
    service = prepare(get_settings().home / "bench", ServiceSize(items=items, users=1000), None)
    load, home = call.options(ArrivalLoad), service.settings.home

    def run(learning: bool) -> Learned:
        arguments, environment = ["--metrics-port", "0"], {"RF_FIRST_EVENTS": str(learning).lower()}
        with (
            BackgroundServer(home, arguments, environment, START_SECONDS) as first,
            BackgroundServer(home, arguments, environment, START_SECONDS) as second,
        ):
            share = load if learning else replace(load, probes=0)
            return asyncio.run(measure(Watched.of(first), Watched.of(second), service.users, service.items, share))

    found = {"without": run(False), "with": run(True)}
    delays = Percentiles.of(found["with"].delays)
    columns = {
        "": "{0[0]}",
        "events": "{0[1].events}",
        "events/s": "{0[1].events_a_second:.0f}",
        "noted": "{0[1].noted}",
        "skipped": "{0[1].skipped}",
        "drained, s": "{0[1].drained_seconds:.1f}",
        "CPU first, ms/event": "{0[1].cpu_first_ms:.3f}",
        "CPU second, ms/event": "{0[1].cpu_second_ms:.3f}",
    }
    Report(
        title="New items in a flood of events",
        lead="From the acknowledgement of a new item's first event by one server to another one's first answer in which it "
        "has moved.",
        results={"milliseconds": delays, **found},
        tables=[
            Table.of(
                "Event to searchable elsewhere, ms",
                [delays],
                {name: f"{{0.{name}:.0f}}" for name in ("p50", "p90", "p99", "max")},
            ),
            Table.of("The flood, with and without items that learn", found.items(), columns),
        ],
        verdict=f"{len(found['with'].delays)} first events were searchable elsewhere after {delays.max / 1000:.1f} s at most; "
        f"{PROMISED_SECONDS:g} s are promised",
    ).publish(call)
