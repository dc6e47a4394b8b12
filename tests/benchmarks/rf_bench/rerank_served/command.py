"""``rf bench rerank-served``."""

from typing import Annotated

import typer

app = typer.Typer()


@app.command()
def rerank_served(
    bundle: Annotated[
        str | None, typer.Option(help="Bundle of this workspace; default: the promoted one.", show_default=False)
    ] = None,
    kind: Annotated[
        str | None,
        typer.Option(
            help="Measure an untrained re-ranker of this kind instead of the bundle's own: lime-mha or lime-xor.",
            show_default=False,
        ),
    ] = None,
    candidates: Annotated[list[int] | None, typer.Option(help="Items to be ordered; may be given again.")] = None,
    k: Annotated[int, typer.Option("-k", min=1, help="Items asked for.")] = 20,
    history: Annotated[int, typer.Option(min=1, help="Interactions of each request.")] = 50,
    requests: Annotated[int, typer.Option(min=10, help="Requests of each order; the medians count.")] = 300,
    seed: Annotated[int, typer.Option(help="Of the histories.")] = 0,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Re-ranking in answers: what each order adds to a request of a real bundle, by the stages' own times.

    The same random histories are answered in the order of the search, by exact dot products and by the re-ranker, in turns, one
    at a time, everything on one core: the user side, which a server computes while it searches, takes its time from the search
    here. A bundle without a re-ranker is measured with an untrained one, which costs the same. Wants a quiet machine.

    [bold]Examples[/]

        rf bench rerank-served                                   # the promoted bundle, 1,000 candidates
        rf bench rerank-served --kind lime-xor --candidates 200 --candidates 1000 --candidates 4000
    """
    from dataclasses import asdict

    from rich.table import Table

    from rf_bench.rerank_served.measure import measure, with_untrained
    from rf_platform.cli.console import out_console, print_json
    from rf_platform.errors import UsageError
    from rf_platform.settings import get_settings
    from rf_serving.bundle.served import ServedBundle
    from rf_serving.server.opening import open_registry, record_to_serve
    from rf_training.rerank import RERANKERS, RerankConfig

    if kind is not None and kind not in RERANKERS:
        raise UsageError(f"--kind={kind} is no re-ranker; choose {', '.join(RERANKERS)}")
    record = record_to_serve(open_registry(get_settings()), bundle)
    opened = ServedBundle.open(record.path)
    trained = kind is None and opened.ranker is not None
    if not trained:
        opened = with_untrained(opened, kind or RerankConfig.kind, seed)
    assert opened.ranker is not None
    counts = candidates or [1000]
    found = measure(opened, counts, k=k, history=history, requests=requests, seed=seed)
    if json:
        print_json(
            {
                "bundle": record.name,
                "items": len(opened.item_ids),
                "index": opened.manifest.index.kind,
                "dim": opened.model.config.dim,
                "kind": opened.ranker.kind,
                "trained": trained,
                "k": k,
                "history": history,
                "requests": requests,
                "results": [asdict(each) for each in found],
            }
        )
        return
    table = Table(
        title=f"milliseconds of a request on one core: {record.name}, {len(opened.item_ids):,} items, "
        f"{opened.manifest.index.kind} index, {'' if trained else 'untrained '}{opened.ranker.kind}, history {history}, k = {k}"
    )
    for head in (
        "order",
        "candidates",
        "rerank p50",
        "rerank p99",
        "encode",
        "search",
        "in all",
        "added",
        "CPU",
        "added CPU",
    ):
        table.add_column(head, justify="left" if head == "order" else "right")
    for each in found:
        numbers = (
            each.rerank_ms,
            each.rerank_p99_ms,
            each.encode_ms,
            each.search_ms,
            each.total_ms,
            each.added_ms,
            each.cpu_ms,
            each.added_cpu_ms,
        )
        table.add_row(each.order, f"{each.candidates:,}", *(f"{number:.3f}" for number in numbers))
    out_console().print(table)
