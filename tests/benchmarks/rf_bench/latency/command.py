"""``rf bench latency``."""

from typing import Annotated

import typer

from rf_bench.invocation import Invocation, Output
from rf_platform.cli.options import Json, listing

app = typer.Typer()


def _kinds() -> list[str]:
    from rf_serving.index import LOCAL_KINDS

    return [name for name, index in LOCAL_KINDS.items() if not index.exact]


@app.command(cls=listing(kinds=_kinds))
def latency(
    context: typer.Context,
    sizes: Annotated[str, typer.Option(help="Items of the catalogs, such as 10k,1m.")] = "10k,100k,1m,10m",
    kinds: Annotated[
        str, typer.Option(help="Indexes beside the exact scan, of {kinds}; default: all.", show_default=False)
    ] = "",
    queries: Annotated[
        int, typer.Option(min=20, help="Queries that are timed; as many others tune the indexes.")
    ] = 1000,
    recall: Annotated[float, typer.Option(help="Recall@100 that approximate indexes are tuned for.")] = 0.95,
    dim: Annotated[int, typer.Option(min=8, help="Width of the model.")] = 64,
    seed: Annotated[int, typer.Option(help="Seed of the catalog, of its users and of the towers.")] = 0,
    rounds: Annotated[int, typer.Option(min=1, help="How often the kinds take turns.")] = 10,
    hnsw_limit: Annotated[
        str, typer.Option(help="Largest catalog with HNSW; ten times as many items take hours.")
    ] = "1m",
    device: Annotated[
        str, typer.Option(help="What searches: cpu, cuda or cuda:N; indexes are built on the CPU.")
    ] = "cpu",
    fresh: Annotated[bool, typer.Option("--fresh", help="Measure anew what this directory has results of.")] = False,
    keep: Annotated[bool, typer.Option("--keep", help="Leave vectors and indexes on disk: 3 GB for 10m.")] = False,
    output: Output = None,
    as_json: Json = False,
) -> None:
    """Search: latency, recall, memory and build time of the exact scan, HNSW and IVF-PQ with exact re-scoring.

    The vectors are those of a RetrievalFormer, trained for a moment on a synthetic catalog with skewed attributes; queries are
    the vectors of other users. Single queries on one thread, all kinds in turns in one process. Building uses RF_THREADS threads,
    by default one. docs/benchmarks.md explains the figures.

    Every size goes step by step in processes of their own; an interrupted benchmark goes on where it stopped when the same
    command is given again.

    [bold]Examples[/]

        rf bench latency                                  # all sizes; 10m takes 15 GB of disk and memory, and most of an hour
        rf bench latency --sizes 10k,100k --queries 200   # a first look
    """
    from rf_bench.latency.benchmark import benchmark
    from rf_bench.latency.chart import draw
    from rf_bench.latency.options import LatencyOptions, parse_sizes
    from rf_bench.latency.tables import result_table, verdict
    from rf_bench.report import Report
    from rf_platform.errors import UsageError
    from rf_platform.settings import get_settings

    limit = parse_sizes(hnsw_limit)
    if len(limit) != 1:
        raise UsageError(f"--hnsw-limit={hnsw_limit!r} must be one number of items, such as 1m")
    call = Invocation.of(context)
    options = call.options(
        LatencyOptions,
        sizes=parse_sizes(sizes),
        **({"kinds": tuple(kind.strip() for kind in kinds.split(","))} if kinds else {}),
        threads=get_settings().threads or 1,
        hnsw_limit=limit[0],
    )
    result = benchmark(options, call.directory, fresh=fresh, keep=keep)
    Report(
        title="Search latency",
        lead="Single queries for 100 results on one thread, all kinds in turns.",
        results=result,
        tables=[result_table(result)],
        charts=draw(result),
        verdict=verdict(result),
        facts={"Catalog": result["catalog"], "FAISS": result["faiss"]},
    ).publish(call)
