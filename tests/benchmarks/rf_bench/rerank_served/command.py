"""``rf bench rerank-served``."""

from typing import Annotated

import typer

from rf_bench.invocation import Invocation, Output
from rf_platform.cli.options import Json, listing

app = typer.Typer()


def _kinds() -> list[str]:
    from rf_training.rerank.kinds import served_kinds

    return served_kinds()


@app.command(cls=listing(kinds=_kinds))
def rerank_served(
    context: typer.Context,
    bundle: Annotated[
        str | None, typer.Option(help="Bundle of this workspace; default: the promoted one.", show_default=False)
    ] = None,
    kind: Annotated[
        str | None,
        typer.Option(
            help="Measure an untrained re-ranker of this kind instead of the bundle's own: {kinds}.",
            show_default=False,
        ),
    ] = None,
    candidates: Annotated[list[int] | None, typer.Option(help="Items to be ordered; may be given again.")] = None,
    k: Annotated[int, typer.Option("-k", min=1, help="Items asked for.")] = 20,
    history: Annotated[int, typer.Option(min=1, help="Interactions of each request.")] = 50,
    requests: Annotated[int, typer.Option(min=10, help="Requests of each order; the medians count.")] = 300,
    seed: Annotated[int, typer.Option(help="Of the histories.")] = 0,
    output: Output = None,
    as_json: Json = False,
) -> None:
    """Re-ranking in answers: what each order adds to a request of a real bundle, by the stages' own times.

    The same random histories are answered in the order of the search, by exact dot products and by the re-ranker, in turns, one
    at a time, everything on one core: the user state, which a server computes while it searches, takes its time from the search
    here. A bundle without a re-ranker is measured with an untrained one, which costs the same. Wants a quiet machine.

    [bold]Examples[/]

        rf bench rerank-served                                   # the promoted bundle, 1,000 candidates
        rf bench rerank-served --kind lime-xor --candidates 200 --candidates 1000 --candidates 4000
    """
    from rf_bench.report import Report, Table
    from rf_bench.rerank_served.measure import measure, with_untrained
    from rf_platform.errors import UsageError
    from rf_platform.registry import Registry
    from rf_platform.settings import get_settings
    from rf_serving.bundle.served import ServedBundle
    from rf_serving.deployment.loader import record_to_serve
    from rf_training.rerank import RERANKERS, RerankConfig

    call = Invocation.of(context)
    if kind is not None and kind not in RERANKERS:
        raise UsageError(f"--kind={kind} is no re-ranker; choose {', '.join(RERANKERS)}")
    record = record_to_serve(Registry.of(get_settings()), bundle)
    opened = ServedBundle.open(record.path)
    trained = kind is None and opened.ranker is not None
    if not trained:
        opened = with_untrained(opened, kind or RerankConfig.kind, seed)
    assert opened.ranker is not None
    found = measure(opened, candidates or [1000], k=k, history=history, requests=requests, seed=seed)
    index = opened.manifest.index.kind
    ranker = f"{'' if trained else 'untrained '}{opened.ranker.kind}"
    columns = {
        "order": "{0.order}",
        "candidates": "{0.candidates:,}",
        "rerank p50": "{0.rerank_ms:.3f}",
        "rerank p99": "{0.rerank_p99_ms:.3f}",
        "encode": "{0.encode_ms:.3f}",
        "search": "{0.search_ms:.3f}",
        "in all": "{0.total_ms:.3f}",
        "added": "{0.added_ms:.3f}",
        "CPU": "{0.cpu_ms:.3f}",
        "added CPU": "{0.added_cpu_ms:.3f}",
    }
    caption = (
        f"milliseconds of a request on one core: {record.name}, {len(opened.item_ids):,} items, {index} index, {ranker}, "
        f"history {history}, k = {k}"
    )
    Report(
        title="Re-ranking in answers",
        lead="The same histories in the order of the search, by exact dot products and by the re-ranker, in turns on one core.",
        results={
            "bundle": record.name,
            "items": len(opened.item_ids),
            "index": index,
            "dim": opened.model.config.dim,
            "kind": opened.ranker.kind,
            "trained": trained,
            "measured": found,
        },
        tables=[Table.of(caption, found, columns)],
    ).publish(call)
