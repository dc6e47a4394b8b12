"""``rf bench fetch``."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer()


@app.command()
def fetch(
    redis: Annotated[
        str | None, typer.Option(help="Also measure this Redis: redis://host:port/db.", show_default=False)
    ] = None,
    postgres: Annotated[
        str | None,
        typer.Option(help="Also measure this PostgreSQL: postgresql://user@host:port/database.", show_default=False),
    ] = None,
    users: Annotated[int, typer.Option(min=32, help="Users in the store.")] = 2000,
    reads: Annotated[int, typer.Option(min=100, help="Reads of each kind.")] = 2000,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """The online store: a user's profile and history of 50, read as the server does, beside Feast's get_online_features.

    Users are made up; each store gets them under a project of its own, which is removed at the end. The kinds of read take
    turns in one process and one thread. CPU is that of this process, without the store's.

    [bold]Example[/]

        rf bench fetch --redis redis://127.0.0.1:6379/0 --postgres postgresql://postgres@127.0.0.1:5432/test
    """
    from dataclasses import asdict
    from tempfile import TemporaryDirectory

    from rich.table import Table

    from rf_bench.fetch.measure import measure
    from rf_platform.cli.console import out_console, print_json, track

    engines = {"sqlite": None, **({"redis": redis} if redis else {}), **({"postgres": postgres} if postgres else {})}
    found = []
    with track("fetch", len(engines)) as progress:
        for name, url in engines.items():
            with TemporaryDirectory(prefix="rf-bench-") as directory:
                found += measure(Path(directory), name, url, users=users, reads=reads)
            progress.advance(note=name)
    if json:
        print_json({"users": users, "reads": reads, "results": [asdict(each) for each in found]})
        return
    table = Table(title=f"a user's profile and history, {reads:,} reads of each kind, milliseconds per user")
    for column in ("store", "read", "p50", "p99", "CPU", "beside Feast"):
        table.add_column(column, justify="left" if column in ("store", "read") else "right")
    for each in found:
        numbers = (f"{each.p50_ms:.3f}", f"{each.p99_ms:.3f}", f"{each.cpu_ms:.3f}", f"{each.ratio:.1f}x")
        table.add_row(each.store, each.read, *numbers)
    out_console().print(table)
