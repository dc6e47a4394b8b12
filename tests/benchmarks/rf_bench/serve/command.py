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
    workers: Annotated[int, typer.Option(min=1, help="Worker processes of the server.")] = 1,
    max_pending: Annotated[int, typer.Option(min=1, help="As of rf serve.")] = 128,
    seconds: Annotated[float, typer.Option(min=1, help="How long each rate is held.")] = 10.0,
    lowest: Annotated[float, typer.Option(min=1, help="First rate, in calls a second.")] = 50.0,
    overload: Annotated[bool, typer.Option(help="Also three times the peak.")] = True,
    soak: Annotated[
        float, typer.Option(min=0, help="Minutes of steady load while bundles, items and events change.")
    ] = 0,
    output: Output = None,
    as_json: Json = False,
) -> None:
    """Load a real server at rising rates: throughput within latency limits, CPU a call, stages, overload, soak.

    Calls are due at random moments whether or not earlier ones were answered (an open loop), and their latency counts from when
    they were due. The generator runs in this process, beside the server: on a small machine it takes its share of the
    cores. A server that only echoes shows, in the same run, what gRPC and the generator cost by themselves.

    The catalog is synthetic; the model is trained on it for a moment, so that items lie in clusters as those of real models do.
    Making a workspace of a million items takes minutes; it is kept and used again.
    """
    from rf_bench.report import Report
    from rf_bench.serve.benchmark import ServeBenchmark, measure_echo, measure_server, summary, summary_table
    from rf_bench.serve.charts import latency_chart, stages_chart
    from rf_bench.serve.workspace import ServiceSize, prepare
    from rf_platform.cli.console import say
    from rf_platform.settings import get_settings

    call = Invocation.of(context)

    def note(text: str) -> None:
        say(text, err=True)

    options, size, home = call.options(ServeBenchmark), call.options(ServiceSize), get_settings().home
    servers = []
    for each in store or ["sqlite"]:
        service = prepare(home / "bench", size, None if each == "sqlite" else each, bundles=2 if soak else 1)
        note(f"requests are of the {service.full_histories:.0%} of the users who have a history of {history} or more")
        servers.append(measure_server(service, options, note))
    echo = measure_echo(servers[0].reply_bytes, options, note)
    capacities = {each.store: each.capacity for each in servers} | {"echo": echo}
    found = summary(echo, servers)
    Report(
        title="A server under load",
        lead="An open loop of calls at rising rates on real server processes, beside a server that only echoes.",
        results={"summary": found, "echo": echo, "servers": servers},
        tables=[summary_table(found)],
        charts=[latency_chart(capacities), *stages_chart(capacities)],
    ).publish(call)
