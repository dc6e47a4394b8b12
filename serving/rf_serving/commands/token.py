"""``rf token``: tokens of the callers of a server."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from rf_platform.cli.options import Json

app = typer.Typer(
    no_args_is_help=True, help="Create, list and remove the tokens that callers need (`rf serve --tokens`)."
)


class RoleName(StrEnum):
    """Roles as they are written on the command line."""

    READ = "read"
    WRITE = "write"
    ADMIN = "admin"


TokensFile = Annotated[
    Path | None,
    typer.Option("--tokens", help="The file (RF_TOKENS; default: tokens.json in the workspace).", envvar="RF_TOKENS"),
]


@app.command()
def add(
    name: Annotated[str, typer.Argument(help="Name of the caller; appears in log lines.")],
    role: Annotated[
        RoleName,
        typer.Option(
            help="read: ask for items; write: also change the catalog and record events; admin: also see what is deployed."
        ),
    ] = RoleName.READ,
    tokens: TokensFile = None,
) -> None:
    """Make a token and print it, once: the file holds only its SHA-256.

    Running servers know it within a second. Callers send it as the metadata `authorization: Bearer TOKEN`; `rf query` and
    `rf deployment` take it from RF_TOKEN.
    """
    from rf_serving.server.rpc import Role
    from rf_serving.server.tokens import add_token

    typer.echo(add_token(_file(tokens), name, Role[role.name]))


@app.command(name="list")
def list_tokens(
    tokens: TokensFile = None,
    as_json: Json = False,
) -> None:
    """List names, roles and ages; the tokens themselves are nowhere."""
    from rich.markup import escape
    from rich.table import Table

    from rf_platform.cli.console import out_console, print_json
    from rf_serving.server.tokens import read_tokens

    rows = [(t.name, t.role.name.lower(), t.created_at) for t in read_tokens(_file(tokens))]
    if as_json:
        print_json([dict(zip(("name", "role", "created_at"), row, strict=True)) for row in rows])
        return
    table = Table("name", "role", "created (UTC)")
    for row in rows:
        table.add_row(*map(escape, row))
    out_console().print(table)


@app.command()
def remove(name: Annotated[str, typer.Argument(help="Name of the caller.")], tokens: TokensFile = None) -> None:
    """Remove a token; running servers refuse it within a second."""
    from rf_serving.server.tokens import remove_token

    remove_token(_file(tokens), name)
    typer.echo(f"the token of {name} is removed")


def _file(given: Path | None) -> Path:
    from rf_platform.settings import get_settings

    return given or get_settings().workspace.root / "tokens.json"
