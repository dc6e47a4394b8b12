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
    tags: Annotated[
        int,
        typer.Option(
            min=0, help="Requests with one or two tags each, through the index of a server; 0 for the shares."
        ),
    ] = 0,
    output: Output = None,
    as_json: Json = False,
) -> None:
    """Time filtered search: latency and recall when 50%, 10%, 1% and 0.1% of the items pass, beside exact scans.

    An HNSW graph over item vectors of a RetrievalFormer, trained for a moment on a synthetic catalog. Three kinds of filters: by
    something independent, by a price that follows the topic, by whole topics. Single queries on one thread, in CPU milliseconds;
    the ways of searching take turns. Vectors and graphs stay in the directory for the next run: the graph of a million items
    takes half an hour.

    With --tags the requests have filters as in yfcc-10M, the data of the filter track of big-ANN: ten tags an item, three of
    its topic, its brand and six words with Zipf's law; each request has one or two tags of an item close to its query. They are
    answered one by one through an IVF-PQ index; what filters cost at first and later stands in four parts.

    [bold]Examples[/]

        rf bench filter --sizes 100k,1m --queries 200
        rf bench filter --sizes 1m --tags 20000
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
    if tags:
        _tags(call, parse_sizes(sizes), threads, queries=queries, k=k, tags=tags)
        return
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


def _tags(call: Invocation, sizes: tuple[int, ...], threads: int, *, queries: int, k: int, tags: int) -> None:
    import faiss
    import torch

    from rf_bench.filter.catalog import filtered_catalog
    from rf_bench.filter.tags import measure_stream, requests_of, with_words
    from rf_bench.latency.options import size_name
    from rf_bench.report import Report, Table
    from rf_serving.search.costs import SearchCosts

    torch.set_num_threads(threads)
    found: dict[str, list[object]] = {}
    tables: list[Table] = []
    for items in sizes:
        faiss.omp_set_num_threads(threads)
        dim, seed, steps = (int(call.parameters[name]) for name in ("dim", "seed", "training_steps"))
        world = filtered_catalog(
            call.directory, items, queries, dim=dim, seed=seed, steps=steps, kind="ivf-pq", tags=with_words
        )
        faiss.omp_set_num_threads(1)
        parts = measure_stream(world, requests_of(world, tags, seed), k, SearchCosts.measure(world.catalog))
        name = size_name(items)
        found[name] = list(parts)
        columns = {
            "requests": "{0.requests}",
            "mean ms": "{0.ms_mean:.3f}",
            "p50": "{0.ms_p50:.3f}",
            "p99": "{0.ms_p99:.3f}",
            "a second": "{0.per_second:.0f}",
            "beside, ms": "{0.beside_ms:.3f}",
            "approximate": "{0.approximate:.0%}",
            f"recall@{k}": "{0.recall}",
        }
        tables.append(
            Table.of(f"CPU milliseconds a request with tags, {name} items, in the order of the stream", parts, columns)
        )
    Report(
        title="Search by tags",
        lead=f"Requests for {k} results with one or two tags each, one by one on one thread, as the planner chooses.",
        results=found,
        tables=tables,
    ).publish(call)
