"""``rf bench encode``."""

from typing import Annotated

import typer

app = typer.Typer()


@app.command()
def encode(
    history: Annotated[int, typer.Option(min=1, help="Interactions of each request.")] = 50,
    dim: Annotated[int, typer.Option(min=8, help="Width of the model.")] = 64,
    repeats: Annotated[int, typer.Option(min=3, help="How often each is timed; the medians count.")] = 50,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Encoding requests: CPU milliseconds of one request, alone and together with others, on one thread.

    Beside each other: the way of training (a table of Arrow columns for every request, the towers as they are trained) and
    the way of the server (dictionaries, folded tables, the last block for one position, many requests at once). Requests have a
    profile of four features; once histories are items alone, once every interaction has five context features.

    [bold]Example[/]

        rf bench encode --history 50 --dim 64
    """
    from dataclasses import asdict

    from rich.table import Table

    from rf_bench.encode.measure import measure
    from rf_platform.cli.console import out_console, print_json

    found = measure(history, dim, repeats)
    if json:
        print_json({"history": history, "dim": dim, "results": [asdict(each) for each in found]})
        return
    table = Table(title=f"CPU milliseconds per request, history {history}, d={dim}")
    for head in ("context", "together", "training's way", "inputs", "towers", "server's way", "times"):
        table.add_column(head, justify="left" if head == "context" else "right")
    for each in found:
        numbers = (each.before_ms, each.inputs_ms, each.towers_ms, each.total_ms)
        table.add_row(
            f"{each.context} features",
            str(each.together),
            *(f"{n:.3f}" for n in numbers),
            f"{each.before_ms / each.total_ms:.1f}",
        )
    out_console().print(table)
