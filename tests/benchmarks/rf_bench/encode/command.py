"""``rf bench encode``."""

from typing import Annotated

import typer

from rf_bench.invocation import Invocation, Output
from rf_platform.cli.options import Json, listing

app = typer.Typer()


def _fusions() -> list[str]:
    from rf_training.model.fusion import FUSIONS

    return list(FUSIONS)


@app.command(cls=listing(fusions=_fusions))
def encode(
    context: typer.Context,
    history: Annotated[int, typer.Option(min=1, help="Interactions of each request.")] = 50,
    dim: Annotated[int, typer.Option(min=8, help="Width of the model.")] = 64,
    fusion: Annotated[str, typer.Option(help="Fusion of the model, of {fusions}.")] = "mean",
    repeats: Annotated[int, typer.Option(min=3, help="How often each is timed; the medians count.")] = 50,
    output: Output = None,
    as_json: Json = False,
) -> None:
    """Time the encoding of requests: CPU milliseconds of one request, alone and together with others, on one thread.

    Beside each other: the way of training (a table of Arrow columns for every request, the towers as they are trained) and
    the way of the server (dictionaries, folded tables, the last block for one position, many requests at once). Requests have a
    profile of four features; once histories are items alone, once every interaction has five context features.

    [bold]Example[/]

        rf bench encode --history 50 --dim 64
    """
    from rf_bench.encode.measure import measure
    from rf_bench.report import Report, Table

    call = Invocation.of(context)
    found = measure(history, dim, fusion, repeats)
    columns = {
        "context": "{0.context} features",
        "together": "{0.together}",
        "training's way": "{0.before_ms:.3f}",
        "inputs": "{0.inputs_ms:.3f}",
        "towers": "{0.towers_ms:.3f}",
        "server's way": "{0.total_ms:.3f}",
        "times": "{0.ratio:.1f}",
    }
    Report(
        title="Encoding requests",
        lead="CPU milliseconds of one request on one thread: as training encodes it, and as the server does.",
        results=found,
        tables=[Table.of(f"CPU milliseconds per request, history {history}, d={dim}, {fusion} fusion", found, columns)],
    ).publish(call)
