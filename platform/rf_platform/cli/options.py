"""Options and arguments that several commands have."""

from pathlib import Path
from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Address = Annotated[str, typer.Option(help="host:port of the server.")]
SERVER = "127.0.0.1:50051"
"""Default of :data:`Address`."""
RunName = Annotated[str | None, typer.Argument(help="Run; default: the last one.", show_default=False)]
DatasetName = Annotated[str | None, typer.Option(help="Dataset version; default: the newest.", show_default=False)]
TieSeed = Annotated[int, typer.Option(help="Seed of the order of ties and of the bootstrap.")]
Markdown = Annotated[
    Path | None,
    typer.Option(help="Also write the tables to this file, as Markdown with all metrics.", show_default=False),
]
Note = Annotated[str, typer.Option(help="Why, for the history.")]
