"""``rf bench filter``."""

from typing import Annotated

import typer

from rf_bench.invocation import Invocation, Output
from rf_platform.cli.options import Json

app = typer.Typer()


@app.command("filter")
def filter_(
    context: typer.Context,
    sizes: Annotated[str, typer.Option(help="Items of the catalogs, such as 100k,1m.")] = "100k",
    k: Annotated[int, typer.Option("-k", "--k", min=1, help="Results of a query.")] = 10,
    queries: Annotated[int, typer.Option(min=10, max=500, help="Queries of each filter.")] = 200,
    dim: Annotated[int, typer.Option(min=8, help="Width of the model.")] = 64,
    seed: Annotated[int, typer.Option(help="Seed of the catalog, of its users and of the towers.")] = 0,
    training_steps: Annotated[int, typer.Option(min=1, help="Steps that the towers are trained for.")] = 400,
    output: Output = None,
    as_json: Json = False,
) -> None:
    """Time filtered search: latency and recall when 50%, 10%, 1% and 0.1% of the items pass, beside exact scans.

    An HNSW graph over item vectors of a RetrievalFormer, trained for a moment on a synthetic catalog. Three kinds of filters: by
    something independent, by a price that follows the topic, by whole topics. Single queries on one thread, in CPU milliseconds;
    the ways of searching take turns. Vectors and graphs stay in the directory for the next run: the graph of a million items
    takes half an hour.

    [bold]Example[/]

        rf bench filter --sizes 100k,1m --queries 200
    """
    import os

    # Read when numpy is imported: one query has one thread.
    os.environ["OPENBLAS_NUM_THREADS"] = "1"

    import faiss
    import torch

    from rf_bench.filter.catalog import filtered_catalog
    from rf_bench.filter.measure import KINDS, MeasuredSize, measure
    from rf_bench.filter.tables import chart, table
    from rf_bench.latency.options import parse_sizes, size_name
    from rf_bench.report import Report
    from rf_platform.cli.console import track
    from rf_platform.settings import get_settings
    from rf_serving.search.costs import SearchCosts

    call, threads = Invocation.of(context), get_settings().threads or 1
    found: list[MeasuredSize] = []
    torch.set_num_threads(threads)
    with track("filter", len(parse_sizes(sizes))) as progress:
        for items in parse_sizes(sizes):
            faiss.omp_set_num_threads(threads)
            world = filtered_catalog(call.directory, items, queries, dim=dim, seed=seed, steps=training_steps)
            faiss.omp_set_num_threads(1)
            costs = SearchCosts.measure(world.catalog)
            found.append(MeasuredSize(items=items, costs=costs, filters=measure(world, k, costs)))
            progress.advance(note=size_name(items))
    Report(
        title="Filtered search",
        lead=f"Single queries for {k} results on one thread, on the graph and on what passes, as the planner chooses.",
        results=found,
        tables=[table(found)],
        charts=[chart(size) for size in found],
        facts={f"Filter {name}": text for name, text in KINDS.items()},
    ).publish(call)
