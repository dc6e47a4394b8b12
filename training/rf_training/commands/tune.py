"""``rf tune``."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from rf_platform.cli.console import out_console, print_json, say
from rf_platform.cli.options import DatasetName, Json, listing
from rf_platform.errors import NotFoundError, UsageError
from rf_platform.settings import get_settings

if TYPE_CHECKING:
    from rf_training.tuning import TuningPlan

app = typer.Typer()


def _tuned() -> list[str]:
    from rf_training.tuning.space import DEFAULTS

    return list(DEFAULTS)


@app.command(cls=listing(tuned=_tuned))
def tune(
    recipe: Annotated[
        str, typer.Option(help="Recipe to tune, named or a YAML file, with its sizes for the dataset.")
    ] = "default",
    dataset: DatasetName = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="Change one setting for all trials, e.g. train.epochs=6. Repeatable.", show_default=False
        ),
    ] = None,
    space: Annotated[
        list[str] | None,
        typer.Option(
            help="Tune this setting: model.dropout=0.1..0.6 or model.dim=64,128, or the name alone for the default range. "
            "Repeatable; default: {tuned}, as far as the recipe has them, around its values.",
            show_default=False,
        ),
    ] = None,
    trials: Annotated[
        int, typer.Option(min=1, help="Trials in all, with those of earlier sittings under the same name.")
    ] = 20,
    name: Annotated[
        str | None, typer.Option(help="Name of the tuning; default: the recipe's.", show_default=False)
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the search; trainings have that of the recipe.")] = 0,
    prune: Annotated[bool, typer.Option(help="End trials early that fall behind the median of the others.")] = True,
    only_report: Annotated[
        bool, typer.Option("--only-report", help="Train nothing: the report of what tuning --name has.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only check the settings and show what is searched.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Search for better settings of a recipe, by the validation split alone.

    Each trial trains the recipe with other settings; Optuna chooses them by what came of those before, and trials that fall
    behind are pruned. The first trial has the recipe's own settings. Validation NDCG@20 with seen items excluded decides; the
    test split is never read.

    Interrupt it at will: the same command goes on where it stopped, also inside a trial, and started in a second terminal it
    takes half of the work. More --trials later continue the same search.

    Results are in the workspace under tunings/NAME: report.md (what was found and which settings mattered), plot.png, trials.csv,
    study.db (Optuna's), and recipe.yaml, which `rf train --recipe` takes.
    """
    from rf_training.tuning import Tuning, TuningPlan, tuning_directory
    from rf_training.tuning import report as reports

    workspace = get_settings()
    if only_report:
        given = {"--set": settings, "--dataset": dataset, "--space": space, "--dry-run": dry_run}
        if wrong := [option for option, value in given.items() if value]:
            raise UsageError(f"--only-report shows tuning --name as it was planned: leave out {' and '.join(wrong)}")
        directory = tuning_directory(workspace, name or recipe)
        if not (directory / "plan.json").exists():
            raise NotFoundError(
                f"there is no tuning '{name or recipe}'; begin it with `rf tune --name {name or recipe}`"
            )
        plan = TuningPlan.load(directory)
    else:
        plan = _plan(recipe, dataset, settings or (), space, name, seed)
    if dry_run:
        if as_json:
            print_json({"name": plan.name, "dataset": plan.dataset, "space": plan.space})
        else:
            for setting, span in plan.space.items():
                say(f"{setting}={span}")
        return
    from rf_training.run import use_threads

    use_threads(workspace)
    tuning = Tuning(workspace, plan)
    try:
        if not only_report:
            tuning.run(trials, prune)
    finally:
        result = reports.tuning_result(tuning)
        files = reports.write_report(tuning, result) if result.trials else []
    if as_json:
        print_json({**reports.to_dict(result), "files": [str(file) for file in files]})
        return
    out_console().print(reports.terminal(result, tuning))
    say(reports.summary(result))
    say(f"written to {tuning.directory}")
    if result.best is not None:
        say(f"next: rf train --recipe {tuning.directory / 'recipe.yaml'}")


def _plan(
    recipe: str,
    dataset: str | None,
    settings: Sequence[str],
    space: list[str] | None,
    name: str | None,
    seed: int,
) -> "TuningPlan":
    from dataclasses import asdict
    from pathlib import Path

    from rf_platform.registry import Registry
    from rf_training.run import recipe_for
    from rf_training.tuning import TuningPlan, default_space, read_space

    record = Registry.of(get_settings()).dataset(dataset)
    chosen = recipe_for(get_settings(), recipe, record.name, settings)
    searched = read_space(space, chosen) if space else default_space(chosen)
    return TuningPlan(
        name=name or Path(recipe).stem,
        dataset=record.name,
        fingerprint=record.fingerprint,
        base=recipe,
        recipe=asdict(chosen),
        space={setting: axis.text for setting, axis in searched.items()},
        seed=seed,
    )
