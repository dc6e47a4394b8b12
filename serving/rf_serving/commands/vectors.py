"""``rf vectors``: vectors of items and users as files."""

from pathlib import Path
from typing import Annotated

import typer

from rf_platform.cli.console import print_json, say
from rf_platform.cli.options import Json
from rf_serving.commands.batch import warn_of_missing_events

app = typer.Typer(no_args_is_help=True, help="Write the vectors of items and users to files, for other programs.")


@app.callback()
def _group() -> None:
    pass


@app.command()
def export(
    items: Annotated[
        Path | None, typer.Option(help="Parquet file to write all items to; one that is there is replaced.")
    ] = None,
    users: Annotated[
        Path | None, typer.Option(help="Parquet file to write users to; one that is there is replaced.")
    ] = None,
    only: Annotated[
        Path | None,
        typer.Option(
            help="Only these users: a text with an id on every line, or a Parquet file; default: all users known.",
            show_default=False,
        ),
    ] = None,
    bundle: Annotated[
        str | None, typer.Option(help="Bundle that makes the vectors; default: the promoted one.", show_default=False)
    ] = None,
    as_json: Json = False,
) -> None:
    """Write the vectors that are searched, and those they are searched with; the dot product of two is the score.

    A row has the id and `vector`, a list of float32 of one length. Items are those of the catalog as the servers have it now,
    live changes included. Users' vectors are made from the features in the online store, as a server would make them now;
    `vector` is missing where these cannot be used.

    [bold]Examples[/]

        rf vectors export --items items.parquet --users users.parquet
        rf vectors export --users vips.parquet --only vips.txt
    """
    from rf_platform.errors import UsageError
    from rf_platform.features.read import read_definitions
    from rf_platform.features.store import open_store
    from rf_platform.files import check_output_file
    from rf_platform.registry import Registry
    from rf_platform.settings import get_settings
    from rf_serving.batch.run import AT_ONCE
    from rf_serving.batch.users import all_users, users_of_file
    from rf_serving.batch.vectors import write_item_vectors, write_user_vectors
    from rf_serving.deployment.loader import opened, record_to_serve

    if items is None and users is None:
        raise UsageError("nothing is asked for; give --items FILE, --users FILE, or both")
    if only is not None and users is None:
        raise UsageError("--only chooses users; give --users FILE, too")
    for option, out in (("--items", items), ("--users", users)):
        if out is not None:
            check_output_file(option, out)
    settings = get_settings()
    record = record_to_serve(Registry.of(settings), bundle)
    store = open_store(settings)
    count, known, failed = 0, 0, 0
    with opened(settings, store, record) as loaded:
        spec = loaded.route.engine.bundle.spec
        if items is not None:
            count = write_item_vectors(loaded.route.engine, items)
        if users is not None:
            warn_of_missing_events(settings, store)
            chosen = (
                all_users(settings, read_definitions(store, settings.feature_service), AT_ONCE)
                if only is None
                else users_of_file(only, spec.user.join_key, spec.user.id_type, AT_ONCE, option="--only")
            )
            with chosen as found:
                known, failed = write_user_vectors(loaded.route, found, users)
    if as_json:
        print_json({"bundle": record.name, "items": count, "users": known, "failed": failed})
        return
    if items is not None:
        say(f"{items}: vectors of {count:,} items by {record.name}")
    if users is not None:
        say(f"{users}: vectors of {known:,} users by {record.name}")
    if failed:
        said = f"{failed:,} users have no vector: their stored features cannot be used; `rf batch` says why"
        say(said, style="bold", err=True)
