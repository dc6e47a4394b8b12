"""``rf bench rerank``."""

import json as json_module
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer()


@app.command()
def rerank(
    candidates: Annotated[int, typer.Option(help="Most candidates; from 64 on, every power of two.")] = 1 << 15,
    history: Annotated[int, typer.Option(help="Longest history; from 64 on, every power of two.")] = 1 << 14,
    items: Annotated[int, typer.Option(min=64, help="Items that candidates are drawn from.")] = 100_000,
    dim: Annotated[int, typer.Option(min=2, help="Width of the towers.")] = 64,
    links: Annotated[int, typer.Option(min=1, help="Links of LIME.")] = 16,
    heads: Annotated[int, typer.Option(min=1, help="Attention heads.")] = 2,
    rounds: Annotated[int, typer.Option(min=1, help="How often the re-rankers take turns; the medians count.")] = 5,
    limit: Annotated[float, typer.Option(help="Most seconds of a request; what would take longer is left out.")] = 0.3,
    seed: Annotated[int, typer.Option(help="Seed of vectors and weights.")] = 0,
    output: Annotated[
        Path | None,
        typer.Option(help="Directory of the results; default: bench/rerank in the workspace.", show_default=False),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Re-ranking: cost of a request by candidates and by history, LIME-MHA and LIME-XOR beside the full ranker.

    Timed is what a request adds: the user side, fetching the candidates' rows of the item side, which is computed beforehand, and
    scoring. One request at a time on one thread, the re-rankers in turns; medians of CPU milliseconds. docs/benchmarks.md
    explains the figures.

    [bold]Examples[/]

        rf bench rerank                                               # everything, a few minutes
        rf bench rerank --candidates 4096 --history 1024 --rounds 3   # a first look
    """
    import os
    from dataclasses import asdict
    from datetime import UTC, datetime

    from rich.table import Table as RichTable

    from rf_bench.page import Page, write_page
    from rf_bench.rerank.chart import draw
    from rf_bench.rerank.measure import measure
    from rf_bench.rerank.options import RerankBenchOptions
    from rf_bench.rerank.summary import ratios, tables, verdict
    from rf_platform.cli.console import out_console, print_json
    from rf_platform.settings import get_settings

    options = RerankBenchOptions(
        candidates=candidates,
        history=history,
        items=items,
        dim=dim,
        links=links,
        heads=heads,
        rounds=rounds,
        limit=limit,
        seed=seed,
    )
    root = output or get_settings().workspace.root / "bench" / "rerank"
    root.mkdir(parents=True, exist_ok=True)
    measured, left_out, item_bytes = measure(options)
    found = ratios(measured, options.history)
    sentence = "" if found is None else verdict(found)
    result = {
        "options": asdict(options),
        "cores": os.cpu_count(),
        "load": list(os.getloadavg()),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "item_bytes": item_bytes,
        "measured": [asdict(each) for each in measured],
        "not_measured": [asdict(each) for each in left_out],
        "ratios": found,
    }
    (root / "rerank.json").write_text(json_module.dumps(result, indent=2) + "\n")
    page = Page(
        title="Cost of re-ranking",
        lead=f"One request at a time on one thread, the item side computed beforehand, all re-rankers in turns. {sentence}",
        facts={
            "Options": ", ".join(f"{name} {value}" for name, value in asdict(options).items()),
            "Bytes kept of an item": ", ".join(f"{kind} {size}" for kind, size in item_bytes.items()),
            "Not measured": f"{len(left_out)} sizes of {', '.join({each.kind for each in left_out}) or 'any re-ranker'}",
            "Finished": str(result["finished"]),
        },
        tables=tables(result),
        charts=draw(result),
    )
    files = write_page(page, root / "rerank.html")
    if json:
        print_json(result)
        return
    for each in page.tables[:2]:
        table = RichTable(title=each.caption)
        for head in each.heads:
            table.add_column(head, justify="left" if head == "re-ranker" else "right")
        for row in each.rows:
            table.add_row(*row)
        out_console().print(table)
    if sentence:
        out_console().print(sentence, highlight=False, soft_wrap=True)
    written = f"written: {root / 'rerank.json'}, rerank.html and {len(files) - 1} charts beside it"
    out_console().print(written, highlight=False, soft_wrap=True)
