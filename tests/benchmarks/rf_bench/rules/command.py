"""``rf bench rules``."""

from pathlib import Path
from typing import Annotated

import typer

from rf_bench.invocation import Invocation, Output
from rf_platform.cli.options import Json

app = typer.Typer()


@app.command()
def rules(
    context: typer.Context,
    policy: Annotated[
        Path | None,
        typer.Option(help="File of a policy; default: the newest that `rf policy apply` took.", show_default=False),
    ] = None,
    placement: Annotated[
        str | None, typer.Option(help="Placement; default: the policy's default, or its only one.", show_default=False)
    ] = None,
    bundle: Annotated[
        str | None, typer.Option(help="Bundle of this workspace; default: the promoted one.", show_default=False)
    ] = None,
    candidates: Annotated[int, typer.Option(min=1, max=10_000, help="Items that rules choose from.")] = 1000,
    k: Annotated[int, typer.Option("-k", min=1, help="Items asked for.")] = 20,
    history: Annotated[int, typer.Option(min=1, help="Interactions of each request.")] = 20,
    requests: Annotated[int, typer.Option(min=10, help="Requests by each kind of rules; the medians count.")] = 300,
    trade: Annotated[
        list[float] | None,
        typer.Option(
            "--lambda", min=0, max=1, help="Also measure what diversity gives and takes at this λ. Repeatable."
        ),
    ] = None,
    users: Annotated[int, typer.Option(min=10, help="Users of the validation split for --lambda.")] = 1000,
    seed: Annotated[int, typer.Option(help="Of histories and users.")] = 0,
    output: Output = None,
    as_json: Json = False,
) -> None:
    """Rules of a placement: CPU of each kind in an answer of a real bundle, and the trade of diversity.

    The same random histories are answered without rules, by each kind of rules that the placement has, and by all of them, in
    turns, one at a time in one thread. With --lambda, the validation targets of the bundle's dataset are looked for in answers of
    maximal marginal relevance: NDCG and Recall, the share of the catalog that is shown, and how alike the items of an answer are.

    [bold]Examples[/]

        rf bench rules --policy shop.yaml --placement home
        rf bench rules --policy shop.yaml --lambda 1 --lambda 0.8 --lambda 0.6
    """
    import numpy as np

    from rf_bench.report import Report, Table
    from rf_bench.rules.measure import costs, trades
    from rf_platform.dataset.run_dataset import open_run_dataset
    from rf_platform.errors import UsageError
    from rf_platform.policies import load_policy, read_policy
    from rf_platform.registry import Registry
    from rf_platform.settings import get_settings
    from rf_protos.v1.retrieval_pb2 import Interaction, Session
    from rf_serving.bundle.served import ServedBundle
    from rf_serving.deployment.loader import record_to_serve
    from rf_serving.policies import CompiledPolicy

    call = Invocation.of(context)
    registry = Registry.of(get_settings())
    record = record_to_serve(registry, bundle)
    opened = ServedBundle.open(record.path)
    if policy is not None:
        (given, _), source = load_policy(policy), policy.name
    elif (newest := registry.policies.newest()) is not None:
        given, source = read_policy(newest.text, newest.name), newest.name
    else:
        raise UsageError("there is no policy: give --policy FILE, or apply one by `rf policy apply`")
    name = placement or given.default or (next(iter(given.placements)) if len(given.placements) == 1 else "")
    if name not in given.placements:
        raise UsageError(f"--placement={name!r}: {source} has {', '.join(given.placements) or 'no placements'}")
    changed = given.placements[name].model_copy(update={"candidates": candidates})
    given = given.model_copy(update={"placements": {name: changed}, "default": None})
    compiled = CompiledPolicy.compile(given, opened.spec)
    rng = np.random.default_rng(seed)
    items = [str(item) for item in opened.item_ids]
    sessions = [
        Session(history=[Interaction(item_id=items[row]) for row in rng.integers(0, len(items), history)])
        for _ in range(20 + requests)
    ]
    found = costs(opened, compiled, name, sessions, k)
    where = f"{record.name}, {len(items):,} items, placement {name} of {source}, {candidates:,} candidates, k = {k}"
    columns = {
        "rules": "{0.rules}",
        "rules p50": "{0.rules_ms:.3f}",
        "rules p99": "{0.rules_p99_ms:.3f}",
        "answer CPU": "{0.total_ms:.3f}",
        "added CPU": "{0.added_ms:.3f}",
    }
    tables = [Table.of(f"milliseconds of a request in one thread: {where}", found, columns)]
    traded = []
    if trade:
        dataset = open_run_dataset(registry, registry.run(record.run))
        traded = list(trades(opened, compiled, dataset, trade, users, seed, k))
        of_trade = {
            "λ": "{0.trade:g}",
            "NDCG": "{0.ndcg:.4f}",
            "Recall": "{0.recall:.4f}",
            "coverage": "{0.coverage:.3f}",
            "likeness": "{0.likeness:.3f}",
        }
        tables.append(
            Table.of(
                f"diversity on validation targets of {dataset.name}, up to {users:,} users, k = {k}", traded, of_trade
            )
        )
    Report(
        title="Rules of a placement",
        lead="The same histories without rules, by each kind of rules and by all of them, in turns in one thread.",
        results={"bundle": record.name, "items": len(items), "placement": name, "costs": found, "trades": traded},
        tables=tables,
    ).publish(call)
