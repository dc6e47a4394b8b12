"""Options, arguments and help texts that several commands have."""

from collections.abc import Callable, Iterable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Address = Annotated[str, typer.Option(help="host:port of the server.", envvar="RF_ADDRESS")]
SERVER = "127.0.0.1:50051"
"""Default of :data:`Address`, without RF_ADDRESS."""
RunName = Annotated[str | None, typer.Argument(help="Run; default: the last one.", show_default=False)]
DatasetName = Annotated[str | None, typer.Option(help="Dataset version; default: the newest.", show_default=False)]
TieSeed = Annotated[int, typer.Option(help="Seed of the order of ties and of the bootstrap.")]
Markdown = Annotated[
    Path | None,
    typer.Option(help="Also write the tables to this file, as Markdown with all metrics.", show_default=False),
]
Note = Annotated[str, typer.Option(help="Why, for the history.")]


class SkewGate(StrEnum):
    """Values of ``--skew``."""

    OFF = "off"
    WARN = "warn"
    REFUSE = "refuse"


Skew = Annotated[
    SkewGate | None,
    typer.Option(
        help="Replay the last logged requests first, and say (warn) or refuse where they differ from what training sees; "
        "default: RF_SKEW_GATE, else off.",
        show_default=False,
    ),
]


class Order(StrEnum):
    """The names that commands have for orders; see :mod:`rf_serving.ranking.policy`."""

    NONE = "none"
    EXACT = "exact"
    LIME = "lime"


class DefaultOrder(StrEnum):
    """Default order of a deployment."""

    AUTO = "auto"
    NONE = "none"
    EXACT = "exact"
    LIME = "lime"


def listing(**tables: Callable[[], Iterable[str]]) -> type[TyperCommand]:
    """Return a command class that fills the entries of tables into option helps: ``{recipes}`` becomes ``default, demo``.

    Args:
        tables: by the word between the braces: returns the names, in order; imports what it needs when it is called.
    """

    class Listing(TyperCommand):
        def fill_help(self) -> None:
            """Put the names into the help texts."""
            for parameter in self.params:
                for word, names in tables.items():
                    text = getattr(parameter, "help", None)
                    if text and f"{{{word}}}" in text:
                        parameter.help = text.replace(f"{{{word}}}", ", ".join(names()))  # type: ignore[attr-defined]

        def format_help(self, ctx: Any, formatter: Any) -> None:
            self.fill_help()
            super().format_help(ctx, formatter)

    return Listing
