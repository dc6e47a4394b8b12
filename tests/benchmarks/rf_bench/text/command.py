"""``rf bench text``."""

from typing import Annotated

import typer

from rf_bench.invocation import Invocation, Output
from rf_platform.cli.options import Json

app = typer.Typer()


@app.command()
def text(
    context: typer.Context,
    encoder: Annotated[
        list[str] | None,
        typer.Option(
            help="Name of an encoder, or a directory; repeatable. Default: all packaged encoders that are installed.",
            show_default=False,
        ),
    ] = None,
    texts: Annotated[int, typer.Option(min=100, help="Different texts that are encoded together.")] = 1000,
    words: Annotated[int, typer.Option(min=1, help="Words of each text; a title has about five.")] = 5,
    output: Output = None,
    as_json: Json = False,
) -> None:
    """Time sentence encoders on one thread: texts a CPU second together, milliseconds of one alone, and reads of the cache.

    [bold]Example[/]

        rf bench text --encoder minilm --words 30
    """
    from rf_bench.report import Report, Table
    from rf_bench.text.measure import installed, measure

    call = Invocation.of(context)
    found = [measure(name, texts, words) for name in encoder or installed()]
    columns = {
        "encoder": "{0.encoder}",
        "numbers": "{0.width}",
        "files": "{0.megabytes:.0f} MB",
        "opened in CPU s": "{0.open_s:.2f}",
        "texts a CPU s": "{0.texts_per_s:,.0f}",
        "one alone, CPU ms": "{0.alone_ms:.2f}",
        "from the cache, texts a CPU s": "{0.cached_per_s:,.0f}",
    }
    Report(
        title="Sentence encoders",
        lead="Texts of made-up words on one thread: encoded together, one by one, and read from the cache on disk.",
        results=found,
        tables=[Table.of(f"{texts:,} texts of {words} words", found, columns)],
    ).publish(call)
