"""``rf bench train``."""

import os
from typing import Annotated

import typer

from rf_bench.invocation import Invocation, Output
from rf_platform.cli.options import Json

app = typer.Typer()


@app.command()
def train(
    context: typer.Context,
    dataset: Annotated[
        str | None,
        typer.Option(
            help="Dataset version to train on; default: a synthetic one, made for the purpose.", show_default=False
        ),
    ] = None,
    users: Annotated[int, typer.Option(help="People of synthetic datasets.", min=10)] = 20_000,
    events: Annotated[int, typer.Option(help="Events of synthetic datasets.", min=100)] = 400_000,
    items: Annotated[
        list[int] | None,
        typer.Option(
            help="Catalog for which the objectives are compared; repeatable. Default: 10000 and 100000. The first is also the "
            "synthetic dataset of everything else.",
            show_default=False,
            min=10,
        ),
    ] = None,
    batch: Annotated[
        int, typer.Option(help="Sequences of a step where the objectives are compared, with one target each.", min=2)
    ] = 512,
    rounds: Annotated[
        int, typer.Option(help="How often everything is timed, in turns; medians are reported.", min=1)
    ] = 5,
    steps: Annotated[int, typer.Option(help="Steps of a round.", min=1)] = 20,
    processes: Annotated[int, typer.Option(help="Processes that are compared with one.", min=2)] = 2,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="Change one setting of the recipe, e.g. model.dim=128. Repeatable.", show_default=False
        ),
    ] = None,
    output: Output = None,
    as_json: Json = False,
) -> None:
    """Measure training: the parts of a step, TorchRec beside plain tables, one process beside several, and the objectives.

    What is compared takes turns, round by round, on the same batches; medians, least and most of the rounds are reported, with
    wall and CPU time. docs/scaling.md explains the figures.

    [bold]Examples[/]

        rf bench train                                      # everything, some 20 minutes of two cores
        rf bench train --rounds 2 --steps 5 --items 10000   # a first look
    """
    from rf_bench.report import Report
    from rf_bench.train.benchmark import BenchOptions, benchmark
    from rf_bench.train.chart import draw
    from rf_bench.train.tables import result_tables
    from rf_platform.dataset import Dataset
    from rf_platform.errors import UsageError
    from rf_platform.registry import Registry
    from rf_platform.settings import get_settings

    call = Invocation.of(context)
    if events < 3 * users:
        raise UsageError(
            f"--events={events} for --users={users}: a user needs three events to learn from; ask for more events"
        )
    own = get_settings()
    opened = None
    if dataset is not None:
        opened = Dataset.open(Registry.of(own).dataset(dataset).path)
    options = BenchOptions(
        users=users,
        events=events,
        catalogs=tuple(items or (10_000, 100_000)),
        batch=batch,
        rounds=rounds,
        steps=steps,
        processes=processes,
        threads=own.threads or max(1, (os.cpu_count() or 2) // 2),
        changes=tuple(settings or ()),
    )
    result = benchmark(options, opened)
    Report(
        title="Training",
        lead="Parts of a step, TorchRec beside plain tables, one process beside several, and the objectives, in turns.",
        results=result,
        tables=list(result_tables(result)),
        charts=[draw(result)],
        facts={"Dataset": ", ".join(f"{name} {value}" for name, value in result.dataset.items())},
    ).publish(call)
