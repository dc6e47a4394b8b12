"""``rf bench serve``."""

from typing import Annotated

import typer

from rf_bench.invocation import Invocation, Output
from rf_platform.cli.options import Json

app = typer.Typer()


@app.command()
def serve(
    context: typer.Context,
    items: Annotated[int, typer.Option(min=1000, help="Catalog.")] = 1_000_000,
    users: Annotated[int, typer.Option(min=10, help="Users with a history.")] = 5_000,
    history: Annotated[int, typer.Option(min=1, max=50, help="Interactions the model reads.")] = 50,
    dim: Annotated[int, typer.Option(min=8, help="Width of the model.")] = 64,
    k: Annotated[int, typer.Option(min=1, help="Items a request asks for.")] = 20,
    store: Annotated[
        list[str] | None,
        typer.Option(
            help="Online store: sqlite, or a URL as in RF_ONLINE_STORE_URL. Repeatable; default: sqlite.",
            show_default=False,
        ),
    ] = None,
    workers: Annotated[
        list[int] | None,
        typer.Option(min=1, help="Worker processes of the server. Repeatable; default: 1.", show_default=False),
    ] = None,
    serve_options: Annotated[
        list[str] | None,
        typer.Option(
            help="Further options of rf serve, in one text such as '--max-pending 64'. Repeatable; default: none.",
            show_default=False,
        ),
    ] = None,
    rates: Annotated[str, typer.Option(help="Calls a second, such as 150,500.")] = "150,500,1000,2000",
    rounds: Annotated[int, typer.Option(min=1, help="How often the servers take turns.")] = 3,
    seconds: Annotated[float, typer.Option(min=1, help="How long each rate is held.")] = 10.0,
    soak: Annotated[
        float, typer.Option(min=0, help="Then minutes of steady load while bundles, items and events change.")
    ] = 0,
    output: Output = None,
    as_json: Json = False,
) -> None:
    """Load real servers: CPU a call, latency at fixed rates, the peak, overload, soak; beside bare echo servers.

    Calls are due at random moments whether or not earlier ones were answered (an open loop), and their latency counts from when
    they were due. Every store with every number of workers and every --serve-options is a server; servers take turns, with two
    that only echo, in C and by grpc.aio. Where the echo in C has a p90 above 1 ms the machine was busy with other work, and the
    latencies of the turn are void.

    The load generator is a program in C, compiled at first use where there are gcc and the headers of nghttp2 (Debian:
    libnghttp2-dev), or else Python in this process; the report says which. On a small machine it takes its share of the cores.

    The catalog is synthetic; the model is trained on it for a moment, so that items lie in clusters as those of real models do.
    Making a workspace of a million items takes minutes; it is kept and used again.
    """
    from itertools import product

    from rf_bench.report import Report
    from rf_bench.serve.benchmark import ServeBenchmark, Server, measure, measure_soak, parse_rates
    from rf_bench.serve.charts import latency_chart, stages_chart
    from rf_bench.serve.native_programs import Tools
    from rf_bench.serve.tables import tables, verdict
    from rf_bench.serve.workspace import ServiceSize, prepare
    from rf_platform.cli.console import say
    from rf_platform.settings import get_settings

    options = ServeBenchmark(rates=parse_rates(rates), rounds=rounds, seconds=seconds, k=k)
    call, settings = Invocation.of(context), get_settings()
    tools = Tools.found(settings.workspace.cache / "bench")

    def note(text: str) -> None:
        say(text, err=True)

    note(f"load generator: {tools.name}")
    size, home = call.options(ServiceSize), settings.home / "bench"
    services = [
        prepare(home, size, None if each == "sqlite" else each, 2 if soak else 1) for each in store or ["sqlite"]
    ]
    note(f"requests are of the {services[0].full_histories:.0%} of the users who have a history of {history} or more")
    servers = [Server.of(*each) for each in product(services, workers or [1], serve_options or [""])]
    found = measure(servers, options, tools, note)
    soaks = {each.name: measure_soak(each, found.peaks[each.name], soak, options, tools) for each in servers if soak}
    Report(
        title="Servers under load",
        lead="Open loops of calls on real server processes in turn, beside servers that only echo. First figure: CPU a call.",
        results={"generator": tools.name, "rounds": found, "soak": soaks},
        tables=tables(found),
        charts=[latency_chart(found), *stages_chart(found)],
        verdict=verdict(found, servers[0].name) if (workers or [1])[0] == 1 else None,
        facts={"Load generator": tools.name},
    ).publish(call)
