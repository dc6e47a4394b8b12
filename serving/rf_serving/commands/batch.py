"""``rf batch``: the best items of all users, as a file."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rf_platform.cli.console import print_json, say
from rf_platform.cli.options import Json, Order

if TYPE_CHECKING:
    from feast import FeatureStore

    from rf_platform.settings import Settings

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
    shard: Annotated[
        str | None,
        typer.Option(
            help="Only a part of these, NUMBER/COUNT from 0, such as 0/8: several machines do one each, into a file each.",
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
    placement: Annotated[
        str | None,
        typer.Option(
            help="Placement of the policy in effect with the rules that answers follow.",
            show_default="the policy's default",
        ),
    ] = None,
    goal: Annotated[
        list[str] | None,
        typer.Option(
            help="What users are to do next: TYPE or TYPE=WEIGHT, such as purchase=3. Repeatable; needs a model with goals.",
            show_default=False,
        ),
    ] = None,
    bundle: Annotated[
        str | None, typer.Option(help="Bundle to answer from; default: the promoted one.", show_default=False)
    ] = None,
    as_json: Json = False,
) -> None:
    """Write the best items of every user to a Parquet file, by the code that answers requests.

    Features are read from the online store, the catalog is as the servers have it now, and the answers are those that
    `rf serve` gives for the same bundle and policy. One row a user: the id, `items` and `scores` (lists, best first), `cold` (no
    history), `sources` and `propensities` (lists, where a placement's rules hold), and `error` where what is stored of a user
    cannot be used. Where the bundle has a re-ranker, the scores are its own.

    [bold]Examples[/]

        rf batch --out top.parquet -k 100
        rf batch --out drama.parquet --users vips.txt \\
          --filter '{"where": [{"feature": "item_attributes__genres", "operator": "ANY_OF", "value": {"stringValue": "Drama"}}]}'
        duckdb -c "SELECT user_id, unnest(items), unnest(scores) FROM 'top.parquet'"
    """
    from contextlib import ExitStack, closing
    from dataclasses import replace

    import faiss
    import torch

    from rf_platform.features.read import read_definitions
    from rf_platform.features.store import open_store
    from rf_platform.files import check_output_file
    from rf_platform.registry import Registry, check_bundle
    from rf_platform.settings import get_settings
    from rf_serving.batch.run import AT_ONCE, BatchQuery, answer_users
    from rf_serving.batch.users import Shard, all_users, users_of_file
    from rf_serving.commands.filter_options import filter_of
    from rf_serving.commands.goal_options import weighted_goals
    from rf_serving.deployment.loader import opened, record_to_serve
    from rf_serving.event_counts import CountFollower, log_source
    from rf_serving.policies import CompiledPolicy
    from rf_serving.ranking.policy import order_named

    check_output_file("--out", out)
    part = None if shard is None else Shard.parse(shard)
    query = BatchQuery(
        k=k,
        exclude_seen=exclude_seen,
        filter=filter_of(filter_text),
        rerank=order_named(rerank),
        placement=placement or "",
        goals=weighted_goals(goal or ()),
    )
    settings = get_settings()
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
        faiss.omp_set_num_threads(settings.threads)
    registry = Registry.of(settings)
    record = record_to_serve(registry, bundle)
    check_bundle(record, signed_by=settings.require_signature)
    store = open_store(settings)
    warn_of_missing_events(settings, store)
    policy = registry.policies.newest()
    with ExitStack() as ending:
        counting: list[CountFollower] = []
        loaded = ending.enter_context(
            opened(settings, store, record, verified=True, counted=lambda: counting[0].counted if counting else None)
        )
        served = loaded.route.engine.bundle
        spec = served.spec
        loaded.route.engine.check_goals(query.goals)
        compiled = None if policy is None else CompiledPolicy.of(policy, record.name, spec, served.goals)
        route = replace(loaded.route, policy=compiled)
        rules = None if compiled is None else compiled.placement(query.placement)
        if rules is not None and (rules.counts or rules.co_occurrence(settings.co_occurrence)):
            say("counting events, for the sources of the placement", err=True)
            counting.append(ending.enter_context(closing(CountFollower(log_source(settings)))))
            counting[0].step(spec, rules.counts)
        chosen = (
            all_users(settings, read_definitions(store, settings.feature_service), AT_ONCE)
            if users is None
            else users_of_file(users, spec.user.join_key, spec.user.id_type, AT_ONCE)
        )
        with chosen as found:
            result = answer_users(route, found if part is None else part.take(found), query, out)
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


def warn_of_missing_events(settings: "Settings", store: "FeatureStore") -> None:
    """Say where the online store lacks events, as far as it can be told."""
    from rf_platform.failures import summary
    from rf_platform.features.store_marks import standing_of

    try:
        said = standing_of(settings, store).detail
    except Exception as error:  # each online store raises its own classes
        said = f"it cannot be told whether the online store lacks events ({summary(error)})"
    if said:
        text = f"{said}: histories and seen items may lack some; `rf doctor` says what to do"
        say(text, style="bold", err=True)
