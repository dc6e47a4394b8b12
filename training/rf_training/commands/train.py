"""``rf train``."""

from dataclasses import asdict
from typing import Annotated

import typer

from rf_platform.cli.console import print_json, say, warn
from rf_platform.cli.options import DatasetName, Json, listing
from rf_platform.errors import UsageError
from rf_platform.settings import get_settings

app = typer.Typer()


def _recipes() -> list[str]:
    from rf_training.recipes import RECIPES

    return list(RECIPES)


@app.command(cls=listing(recipes=_recipes))
def train(
    context: typer.Context,
    recipe: Annotated[
        str | None,
        typer.Option(
            help="Named configuration to start from: {recipes}; or a YAML file, such as `rf tune` writes; default: default.",
            show_default=False,
        ),
    ] = None,
    dataset: DatasetName = None,
    name: Annotated[
        str | None, typer.Option(help="Name of the run; default: the recipe's with a number.", show_default=False)
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="Change one setting, e.g. model.dim=128 or train.epochs=5. Repeatable.", show_default=False
        ),
    ] = None,
    bundle: Annotated[
        str | None,
        typer.Option(
            "--from",
            help="Bundle to go on from: its weights, its recipe and a shorter schedule; the dataset may have more values.",
            show_default=False,
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the last checkpoint of run --name; default: the last run.")
    ] = False,
    callback: Annotated[
        list[str] | None,
        typer.Option(
            help="Also tell of the training: mlflow, wandb, or package.module:name of your own. Repeatable.",
            show_default=False,
        ),
    ] = None,
    nproc: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Processes on this host that train together; for several hosts see docs/scaling.md.",
            show_default=False,
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Train a two-tower model on a dataset version.

    The validation targets that the dataset's protocol holds out choose the best epoch; its weights `rf index build` turns into
    a bundle. They also say by how much the scores of items without training events are raised (train.cold_budget).

    With --from a run starts from a bundle's weights instead of random ones: known values keep their ids and rows, new ones start
    as unknown ones, and what became of every vocabulary is shown.

    An interrupted run goes on with --resume and ends with the same metrics. Watch it with `tensorboard --logdir` on the
    workspace's runs/ directory, or in MLflow or Weights & Biases with --callback. docs/training.md explains recipes and all
    settings.
    """
    if resume:
        given = {"--recipe": recipe, "--dataset": dataset, "--set": settings, "--from": bundle}
        if wrong := [option for option, value in given.items() if value]:
            raise UsageError(
                f"--resume goes on with the run's own recipe, dataset and settings: leave out {' and '.join(wrong)}"
            )
    if bundle is not None and recipe is not None:
        raise UsageError(
            f"--from goes on with the bundle's own recipe: leave out --recipe {recipe}, and change single settings with --set"
        )
    if nproc is not None and nproc > 1:
        raise typer.Exit(_launch(context, nproc))
    from rf_training.callbacks import make_callbacks
    from rf_training.distributed.process_group import World
    from rf_training.run import baselines_ahead, continue_run, recipe_for, recipe_from_dict, resume_run, start_run
    from rf_training.validation import SELECTION_METRIC

    world = World.join(hint="`rf train --resume` goes on from the last complete checkpoint.")
    try:
        told = make_callbacks(callback or ()) if world.main else []
        if resume:
            result = resume_run(get_settings(), name, world, told)
        elif bundle is not None:
            result = continue_run(get_settings(), bundle, dataset, name, settings or (), world, told)
        else:
            named = recipe or "default"
            chosen = world.on_main(lambda: asdict(recipe_for(get_settings(), named, dataset, settings or ())))
            result = start_run(get_settings(), recipe_from_dict(chosen), dataset, name, world, told)
    finally:
        world.leave()
    if not world.main:
        return
    ahead = baselines_ahead(get_settings(), result.name)
    for beaten in ahead:
        warn(str(beaten))
    if as_json:
        print_json({**asdict(result), "beaten_by": [asdict(beaten) for beaten in ahead]})
        return
    if result.cold is not None:
        acted = " (played by known items with their ids forgotten)" if result.cold.pretended else ""
        say(
            f"cold items{acted}: scores raised by {result.cold.shift:g}; validation recall@20 {result.cold.before}"
            + (f" -> {result.cold.after}; ndcg@20 {result.cold.price}" if result.cold.shift else "")
        )
    say(
        f"run {result.name}: best epoch {result.best_epoch}, validation {SELECTION_METRIC} "
        f"{result.validation[SELECTION_METRIC]:.4f}, recall@20 {result.validation['recall@20']:.4f} (seen items excluded)"
    )


def _launch(context: typer.Context, nproc: int) -> int:
    """Start this very command in several processes."""
    import os

    from rf_training.distributed.launcher import launch

    if "RANK" in os.environ:
        raise UsageError("`torchrun` has started several processes already: leave out --nproc")
    arguments = ["train"]
    for option in context.command.params:
        value = context.params.get(option.name or "")
        if option.name == "nproc" or value in (None, False, [], ()):
            continue
        for each in value if isinstance(value, list | tuple) else [value]:
            arguments += [option.opts[0]] if each is True else [option.opts[0], str(each)]
    return launch(arguments, nproc)
