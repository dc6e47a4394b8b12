"""The root command: global options and lazy loading."""

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from rf_platform.cli.commands import COMMANDS, CommandEntry
from rf_platform.errors import NotFoundError


class LazyGroup(TyperGroup):
    """Shows every command from the table and imports only the one that is run."""

    table: ClassVar[Mapping[str, CommandEntry]] = COMMANDS

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of all installed commands in the table's order."""
        return [name for name, entry in self.table.items() if entry.installed]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return a stand-in that carries the summary; :meth:`resolve_command` loads the real command."""
        entry = self.table.get(cmd_name)
        return None if entry is None else TyperCommand(cmd_name, help=entry.summary)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Import the command that was asked for."""
        self.commands = {name: TyperCommand(name) for name in self.table}  # what "did you mean" looks through
        name, stand_in, rest = super().resolve_command(ctx, args)
        if name is None or stand_in is None:
            return name, stand_in, rest
        entry = self.table[name]
        if not entry.installed:
            raise NotFoundError(f"'{name}' is not installed: {entry.remedy}")
        module, attribute = entry.target.split(":")
        command = get_command(getattr(importlib.import_module(module), attribute))
        command.name = name
        return name, command, rest


app = typer.Typer(cls=LazyGroup, no_args_is_help=True, add_completion=True, rich_markup_mode="rich")


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        from rf_platform.cli.console import say

        say(f"rf {version('retrievalformer')}")
        raise typer.Exit


@app.callback()
def root(
    home: Annotated[
        Path | None,
        typer.Option(help="Workspace directory, one per catalog (RF_HOME; default: .rf).", show_default=False),
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and end.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Run a recommender: features in Feast, a two-tower transformer, retrieval over gRPC.

    The usual order: data import, features apply, features materialize, dataset build, train, index build, promote, serve, query.
    Settings are read from RF_* environment variables; `rf doctor` shows them and checks the installation.
    """
    if home is not None:
        from rf_platform.settings import use_home

        use_home(home)
