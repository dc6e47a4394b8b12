"""``rf bench rerank``."""

from typing import Annotated

import typer

from rf_bench.invocation import Invocation, Output
from rf_platform.cli.options import Json

app = typer.Typer()


@app.command()
def rerank(
    context: typer.Context,
    candidates: Annotated[int, typer.Option(help="Most candidates; from 64 on, every power of two.")] = 1 << 15,
    history: Annotated[int, typer.Option(help="Longest history; from 64 on, every power of two.")] = 1 << 14,
    items: Annotated[int, typer.Option(min=64, help="Items that candidates are drawn from.")] = 100_000,
    dim: Annotated[int, typer.Option(min=2, help="Width of the towers.")] = 64,
    links: Annotated[int, typer.Option(min=1, help="Links of LIME.")] = 16,
    heads: Annotated[int, typer.Option(min=1, help="Attention heads.")] = 2,
    rounds: Annotated[int, typer.Option(min=1, help="How often the re-rankers take turns; the medians count.")] = 5,
    limit: Annotated[float, typer.Option(help="Most seconds of a request; what would take longer is left out.")] = 0.3,
    seed: Annotated[int, typer.Option(help="Seed of vectors and weights.")] = 0,
    output: Output = None,
    as_json: Json = False,
) -> None:
    """Re-ranking: cost of a request by candidates and by history, LIME-MHA and LIME-XOR beside the full ranker.

    Timed is what a request adds: the user state, fetching the candidates' item states, which are computed beforehand, and
    scoring. One request at a time on one thread, the re-rankers in turns; medians of CPU milliseconds. docs/benchmarks.md
    explains the figures.

    [bold]Examples[/]

        rf bench rerank                                               # everything, a few minutes
        rf bench rerank --candidates 4096 --history 1024 --rounds 3   # a first look
    """
    from rf_bench.report import Report
    from rf_bench.rerank.chart import draw
    from rf_bench.rerank.measure import measure
    from rf_bench.rerank.options import RerankBenchOptions
    from rf_bench.rerank.summary import ratios, tables, verdict

    call = Invocation.of(context)
    options = call.options(RerankBenchOptions)
    measured, left_out, item_bytes = measure(options)
    compared = ratios(measured, options.history)
    slow = ", ".join({each.kind for each in left_out}) or "any re-ranker"
    Report(
        title="Cost of re-ranking",
        lead="One request at a time on one thread, item states computed beforehand, all re-rankers in turns.",
        results={"measured": measured, "not_measured": left_out, "item_bytes": item_bytes, "ratios": compared},
        tables=tables(measured),
        charts=draw(measured, options.limit),
        verdict=verdict(compared) if compared else None,
        facts={
            "Bytes kept of an item": ", ".join(f"{kind} {size}" for kind, size in item_bytes.items()),
            "Not measured": f"{len(left_out)} sizes of {slow}",
        },
    ).publish(call)
