"""``rf bench fetch``."""

from pathlib import Path
from typing import Annotated

import typer

from rf_bench.invocation import Invocation, Output
from rf_platform.cli.options import Json

app = typer.Typer()


@app.command()
def fetch(
    context: typer.Context,
    redis: Annotated[
        str | None, typer.Option(help="Also measure this Redis: redis://host:port/db.", show_default=False)
    ] = None,
    postgres: Annotated[
        str | None,
        typer.Option(help="Also measure this PostgreSQL: postgresql://user@host:port/database.", show_default=False),
    ] = None,
    users: Annotated[int, typer.Option(min=32, help="Users in the store.")] = 2000,
    reads: Annotated[int, typer.Option(min=100, help="Reads of each kind.")] = 2000,
    output: Output = None,
    as_json: Json = False,
) -> None:
    """Time online reads: a user's profile and history of 50, read as the server does, beside Feast's get_online_features.

    Users are made up; each store gets them under a project of its own, which is removed at the end. The kinds of read take
    turns in one process and one thread. CPU is that of this process, without the store's.

    [bold]Example[/]

        rf bench fetch --redis redis://127.0.0.1:6379/0 --postgres postgresql://postgres@127.0.0.1:5432/test
    """
    from tempfile import TemporaryDirectory

    from rf_bench.fetch.measure import measure
    from rf_bench.report import Report, Table
    from rf_platform.cli.console import track

    call = Invocation.of(context)
    engines = {"sqlite": None, **({"redis": redis} if redis else {}), **({"postgres": postgres} if postgres else {})}
    found = []
    with track("fetch", len(engines)) as progress:
        for name, url in engines.items():
            with TemporaryDirectory(prefix="rf-bench-") as directory:
                found += measure(Path(directory), name, url, users=users, reads=reads)
            progress.advance(note=name)
    columns = {
        "store": "{0.store}",
        "read": "{0.read}",
        "p50": "{0.p50_ms:.3f}",
        "p99": "{0.p99_ms:.3f}",
        "CPU": "{0.cpu_ms:.3f}",
        "beside Feast": "{0.ratio:.1f}x",
    }
    caption = f"a user's profile and history, {reads:,} reads of each kind, milliseconds per user"
    Report(
        title="Reads of the online store",
        lead="A user's profile and history of 50, read as the server reads them, beside Feast's get_online_features, in turns.",
        results=found,
        tables=[Table.of(caption, found, columns, labels=2)],
    ).publish(call)
