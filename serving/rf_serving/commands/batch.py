"""``rf batch``: the best items of all users, as a file."""

from pathlib import Path
from typing import Annotated

import typer

from rf_platform.cli.console import print_json, say
from rf_platform.cli.options import Json, Order

app = typer.Typer()


@app.command()
def batch(
    out: Annotated[Path, typer.Option(help="Parquet file to write; one that is there is replaced when all is done.")],
    users: Annotated[
        Path | None,
        typer.Option(
            help="Only these: a text with an id on every line, or a Parquet file; default: all users known.",
            show_default=False,
        ),
    ] = None,
    k: Annotated[int, typer.Option("-k", "--k", min=1, help="Items of each user.")] = 10,
    exclude_seen: Annotated[
        bool, typer.Option("--exclude-seen/--include-seen", help="Leave out the items that the user has seen.")
    ] = True,
    filter_text: Annotated[
        str | None,
        typer.Option(
            "--filter",
            help="Which items may be returned: the JSON of a retrievalformer.v1.Filter, or @FILE that has it.",
            show_default=False,
        ),
    ] = None,
    rerank: Annotated[
        Order | None,
        typer.Option(help="What orders the items that are found; default: as RF_RERANK says.", show_default=False),
    ] = None,
    bundle: Annotated[
        str | None, typer.Option(help="Bundle to answer from; default: the promoted one.", show_default=False)
    ] = None,
    as_json: Json = False,
) -> None:
    """Write the best items of every user to a Parquet file, by the code that answers requests.

    Features are read from the online store, the catalog is as the servers have it now, and the answers are those that
    `rf serve` gives for the same bundle. One row a user: the id, `items` and `scores` (lists, best first), `cold` (no
    history), and `error` where what is stored of a user cannot be used. Where the bundle has a re-ranker, the scores are its own.

    [bold]Examples[/]

        rf batch --out top.parquet -k 100
        rf batch --out drama.parquet --users vips.txt \\
          --filter '{"where": [{"feature": "item_attributes__genres", "operator": "ANY_OF", "value": {"stringValue": "Drama"}}]}'
        duckdb -c "SELECT user_id, unnest(items), unnest(scores) FROM 'top.parquet'"
    """
    import faiss
    import torch

    from rf_platform.failures import summary
    from rf_platform.features.read import read_definitions
    from rf_platform.features.store import open_store
    from rf_platform.features.store_marks import standing_of
    from rf_platform.files import check_output_file
    from rf_platform.registry import Registry, check_bundle
    from rf_platform.registry.journal import CatalogJournal
    from rf_platform.settings import get_settings
    from rf_serving.batch.run import AT_ONCE, BatchQuery, answer_users
    from rf_serving.batch.users import all_users, users_of_file
    from rf_serving.commands.filter_options import filter_of
    from rf_serving.deployment.loader import BundleLoader, record_to_serve
    from rf_serving.ranking.policy import order_named

    check_output_file("--out", out)
    query = BatchQuery(k=k, exclude_seen=exclude_seen, filter=filter_of(filter_text), rerank=order_named(rerank))
    settings = get_settings()
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
        faiss.omp_set_num_threads(settings.threads)
    record = record_to_serve(Registry.of(settings), bundle)
    check_bundle(record)
    store = open_store(settings)
    try:
        said = standing_of(settings, store).detail
    except Exception as error:  # each online store raises its own classes
        said = f"it cannot be told whether the online store lacks events ({summary(error)})"
    if said:
        text = f"{said}: histories and seen items may lack some; `rf doctor` says what to do"
        say(text, style="bold", err=True)
    journal = CatalogJournal.open(settings.platform_registry_url)
    loaded = BundleLoader(settings, store, journal).load(record, verified=True)
    try:
        spec = loaded.route.engine.bundle.spec
        chosen = (
            all_users(settings, read_definitions(store, settings.feature_service), AT_ONCE)
            if users is None
            else users_of_file(users, spec.user.join_key, spec.user.id_type, AT_ONCE)
        )
        with chosen as found:
            result = answer_users(loaded.route, found, query, out)
    finally:
        loaded.close()
        journal.close()
    if as_json:
        print_json(
            {
                "out": str(out),
                "bundle": record.name,
                "users": result.users,
                "cold": result.cold,
                "failed": result.failed,
            }
        )
        return
    say(f"{out}: the {k} best items of {result.users} users, {result.cold} of them without a history, by {record.name}")
    if result.failed:
        said = f"{result.failed} users have no answer: their stored features cannot be used; the column error says why"
        say(said, style="bold", err=True)
