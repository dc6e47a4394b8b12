"""Help texts that list the names in a table, which is imported only when the help is shown."""

from collections.abc import Callable, Iterable
from typing import Any

from typer.core import TyperCommand


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
