"""``rf train``."""

from dataclasses import asdict
from typing import Annotated

import typer

from rf_platform.cli.console import err_console, out_console, print_json
from rf_platform.errors import UsageError
from rf_platform.settings import get_settings

app = typer.Typer()


@app.command()
def train(
    recipe: Annotated[
        str | None,
        typer.Option(
            help="Named configuration to start from: default, demo, ml-1m, amazon-beauty or amazon-toys; default: default. "
            "The first two choose sizes by the dataset.",
            show_default=False,
        ),
    ] = None,
    dataset: Annotated[
        str | None, typer.Option(help="Dataset version; default: the newest.", show_default=False)
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Name of the run; default: the recipe's with a number.", show_default=False)
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="Change one setting, e.g. model.dim=128 or train.epochs=5. Repeatable.", show_default=False
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the last checkpoint of run --name; default: the last run.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Train a two-tower model on a dataset version.

    The validation targets that the dataset's protocol holds out choose the best epoch, whose weights `rf index build` turns into
    a bundle. They also say by how much the scores of items without training events are raised (train.cold_budget).

    An interrupted run goes on with --resume and ends with the same metrics. Watch it with `tensorboard --logdir` on the
    workspace's runs/ directory. docs/training.md explains recipes and all settings.
    """
    from rf_training.run import baselines_ahead, recipe_for, resume_run, start_run
    from rf_training.trainer import SELECTION_METRIC

    if resume:
        given = {"--recipe": recipe, "--dataset": dataset, "--set": settings}
        if wrong := [option for option, value in given.items() if value]:
            raise UsageError(
                f"--resume goes on with the run's own recipe, dataset and settings: leave out {' and '.join(wrong)}"
            )
        result = resume_run(get_settings(), name)
    else:
        chosen = recipe_for(get_settings(), recipe or "default", dataset, settings or ())
        result = start_run(get_settings(), chosen, dataset, name)
    ahead = baselines_ahead(get_settings(), result.name)
    for beaten in ahead:
        err_console().print(f"[yellow]warning:[/] {beaten}", highlight=False, soft_wrap=True)
    if json:
        print_json({**asdict(result), "beaten_by": [asdict(beaten) for beaten in ahead]})
        return
    if result.cold is not None:
        acted = " (played by known items with their ids forgotten)" if result.cold.pretended else ""
        out_console().print(
            f"cold items{acted}: scores raised by {result.cold.shift:g}; validation recall@20 {result.cold.before} -> "
            f"{result.cold.after}",
            highlight=False,
            soft_wrap=True,
        )
    out_console().print(
        f"run {result.name}: best epoch {result.best_epoch}, validation {SELECTION_METRIC} "
        f"{result.validation[SELECTION_METRIC]:.4f}, recall@20 {result.validation['recall@20']:.4f} (seen items excluded)",
        highlight=False,
        soft_wrap=True,
    )
