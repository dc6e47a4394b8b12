"""``rf bench filter``."""

import json as json_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rf_training.report.drawing import Chart

app = typer.Typer()


@app.command("filter")
def filter_(
    sizes: Annotated[str, typer.Option(help="Items of the catalogs, such as 100k,1m.")] = "100k",
    k: Annotated[int, typer.Option("-k", "--k", min=1, help="Results of a query.")] = 10,
    queries: Annotated[int, typer.Option(min=10, max=500, help="Queries of each filter.")] = 200,
    dim: Annotated[int, typer.Option(min=8, help="Width of the model.")] = 64,
    seed: Annotated[int, typer.Option(help="Seed of the catalog, of its users and of the towers.")] = 0,
    training_steps: Annotated[int, typer.Option(min=1, help="Steps that the towers are trained for.")] = 400,
    output: Annotated[
        Path | None,
        typer.Option(help="Directory of the results; default: bench/filter in the workspace.", show_default=False),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Filtered search: latency and recall when 50%, 10%, 1% and 0.1% of the items pass, beside exact scans.

    An HNSW graph over item vectors of a RetrievalFormer, trained for a moment on a synthetic catalog. Three kinds of filters: by
    something independent, by a price that follows the topic, by whole topics. Single queries on one thread, in CPU milliseconds;
    the ways of searching take turns. Vectors and graphs stay in the directory for the next run: the graph of a million items
    takes half an hour.

    [bold]Example[/]

        rf bench filter --sizes 100k,1m --queries 200
    """
    import os
    from dataclasses import asdict

    # Read when numpy is imported: one query has one thread.
    os.environ["OPENBLAS_NUM_THREADS"] = "1"

    import faiss
    import torch
    from rich.table import Table as RichTable

    from rf_bench.filter.catalog import filtered_catalog
    from rf_bench.filter.measure import KINDS, measure
    from rf_bench.latency.options import parse_sizes, size_name
    from rf_bench.page import Page, Table, write_page
    from rf_platform.cli.console import out_console, print_json, track
    from rf_platform.settings import get_settings
    from rf_serving.filtering.costs import SearchCosts

    settings = get_settings()
    root = output or settings.workspace.root / "bench" / "filter"
    results: list[dict[str, Any]] = []
    torch.set_num_threads(settings.threads or 1)
    with track("filter", len(parse_sizes(sizes))) as progress:
        for items in parse_sizes(sizes):
            faiss.omp_set_num_threads(settings.threads or 1)
            world = filtered_catalog(root, items, queries, dim=dim, seed=seed, steps=training_steps)
            faiss.omp_set_num_threads(1)
            costs = SearchCosts.measure(world.catalog)
            measured = [asdict(each) for each in measure(world, k, costs)]
            results.append({"items": items, "costs": asdict(costs), "filters": measured})
            progress.advance(note=size_name(items))
    document = {"k": k, "queries": queries, "dim": dim, "seed": seed, "kinds": KINDS, "sizes": results}
    root.mkdir(parents=True, exist_ok=True)
    (root / "filter.json").write_text(json_module.dumps(document, indent=2) + "\n")
    heads = [
        "items",
        "filter",
        "pass",
        "ms",
        "p99",
        "recall",
        "by index",
        "index ms",
        "index recall",
        "exact ms",
        "whole ms",
        "times",
    ]
    rows = [_row(size_name(size["items"]), each) for size in results for each in size["filters"]]
    page = Page(
        title="Filtered search",
        lead=f"Single queries for {k} results on one thread, on the graph and on what passes, as the planner chooses.",
        facts={"Queries": f"{queries} of each filter", **{f"Filter {name}": text for name, text in KINDS.items()}},
        tables=[
            Table(
                caption="Medians of CPU milliseconds; times: the whole scan beside the planned way",
                heads=heads,
                rows=rows,
            )
        ],
        charts=[_chart(size) for size in results],
    )
    write_page(page, root / "filter.html")
    if json:
        print_json(document)
        return
    table = RichTable(title=f"filtered search, {k} results, {queries} queries of each filter")
    shown = [place for place, head in enumerate(heads) if head not in ("p99", "index ms", "index recall")]
    for place in shown:
        table.add_column(heads[place], justify="left" if heads[place] in ("items", "filter") else "right")
    for row in rows:
        table.add_row(*(row[place] for place in shown))
    out_console().print(table)
    out_console().print(f"written: {root / 'filter.json'} and {root / 'filter.html'}", highlight=False, soft_wrap=True)


def _row(size: str, each: dict[str, Any]) -> list[str]:
    planned, index, exact, whole = (each[name] for name in ("planned", "index", "exact", "whole"))
    return [
        size,
        each["kind"],
        f"{each['share']:.1%}",
        f"{planned['ms_p50']:.2f}",
        f"{planned['ms_p99']:.2f}",
        f"{planned['recall']:.4f}",
        f"{each['approximate']:.0%}",
        f"{index['ms_p50']:.2f}" if index else "",
        f"{index['recall']:.4f}" if index else "",
        f"{exact['ms_p50']:.2f}",
        f"{whole['ms_p50']:.2f}",
        f"{whole['ms_p50'] / planned['ms_p50']:.1f}",
    ]


def _chart(size: dict[str, Any]) -> "Chart":
    from rf_bench.latency.options import size_name
    from rf_training.report.drawing import MUTED, SERIES, finish, panel

    title = f"Latency behind a filter, {size_name(size['items'])} items"
    names = {"planned": "as planned", "index": "index first", "exact": "what passes", "whole": "whole scan"}
    inks = dict(zip(names, (SERIES[0], SERIES[1], SERIES[2], MUTED), strict=True))
    with panel(title) as (figure, axes):
        for name, label in names.items():
            some = [each for each in size["filters"] if each["kind"] == "independent" and each[name]]
            times = [each[name]["ms_p50"] for each in some]
            axes.plot(
                [each["share"] for each in some], times, color=inks[name].light, marker="o", markersize=4, label=label
            )
        axes.set(xscale="log", yscale="log", xlabel="share of items that pass", ylabel="CPU milliseconds, median")
        figure.legend(loc="outside lower left", ncols=4, handlelength=1, columnspacing=1.2)
        return finish(
            figure,
            name=str(size["items"]),
            title=title,
            note="An independent filter. The planned way takes the cheaper of the index and the exact search among what passes.",
        )
