"""``rf ablate``."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from rf_platform.cli.console import out_console, print_json, say
from rf_platform.cli.options import DatasetName, Json, listing
from rf_platform.errors import RunError, UsageError
from rf_platform.settings import get_settings

if TYPE_CHECKING:
    from rf_training.experiments import Plan

app = typer.Typer()


def _grids() -> list[str]:
    from rf_training.experiments import GRIDS

    return list(GRIDS)


@app.command(cls=listing(grids=_grids))
def ablate(
    grid: Annotated[
        str,
        typer.Option(help="One of {grids}, or a YAML file of your own; table3 is the paper's."),
    ] = "table3",
    group: Annotated[
        list[str] | None,
        typer.Option(
            help="Only this group of the grid, or only some of its variants: dim, or dim:64,256. Repeatable.",
            show_default=False,
        ),
    ] = None,
    recipe: Annotated[
        str, typer.Option(help="Named configuration that every group varies, with its sizes for the dataset.")
    ] = "default",
    dataset: DatasetName = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="Change one setting of the recipe for all, e.g. train.epochs=4. Repeatable.",
            show_default=False,
        ),
    ] = None,
    seeds: Annotated[
        str, typer.Option(help="Training seeds, comma-separated: 0,1,2 trains every variant three times.")
    ] = "0",
    split: Annotated[
        Literal["validation", "test"],
        typer.Option(help="Split to rank: choose between variants on validation, report test once at the end."),
    ] = "validation",
    name: Annotated[
        str | None, typer.Option(help="Name of the ablation; default: the grid's.", show_default=False)
    ] = None,
    only_report: Annotated[
        bool, typer.Option("--only-report", help="Train nothing: tables and plot of what ablation --name has.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only check the grid and list its runs.")] = False,
    as_json: Json = False,
) -> None:
    """Vary one thing at a time around a recipe, and show what each change does to the ranking.

    A group (such as the length of histories) has variants; each is an ordinary run, compared with the group's base user by user,
    on the targets that the dataset's protocol holds out, warm and cold ones also apart. Runs that groups share are trained once.

    Interrupt it at will: the same command goes on where it stopped, and started in a second terminal it takes half of the work.
    Results are in the workspace under ablations/NAME: table.md, table.csv, plot.png, results.json.

    A grid of your own:

        groups: {history: {variants: {short: {model.max_history: 10}}}}
    """
    from rf_training.evaluation import Split
    from rf_training.experiments import Ablation, Plan, terminal
    from rf_training.run import use_threads

    workspace = get_settings()
    name = name or Path(grid).stem
    if only_report:
        given = {"--group": group, "--set": settings, "--dataset": dataset, "--dry-run": dry_run}
        given |= {"--recipe": recipe != "default", "--seeds": seeds != "0"}
        if wrong := [option for option, value in given.items() if value]:
            raise UsageError(f"--only-report shows ablation --name as it was planned: leave out {' and '.join(wrong)}")
        selected = plan = Plan.load(_directory(name))
    else:
        selected = _selected(grid, group or (), recipe, dataset, settings or (), seeds, name)
        there = (_directory(name) / "plan.json").exists()
        plan = selected.extended(Plan.load(_directory(name))) if there else selected
    if dry_run:
        _show(selected, as_json)
        return
    use_threads(workspace)
    ablation = Ablation(workspace, plan, Split.TEST if split == "test" else Split.VALIDATION)
    failed = {}
    if not only_report:
        plan.save(ablation.directory)
        failed = ablation.train(selected)
    result = ablation.result(failed)
    files = ablation.write(result)
    if as_json:
        print_json({**result.to_dict(), "files": [str(file) for file in files]})
    else:
        console = out_console()
        console.print(terminal(result))
        for run, reason in result.missing.items():
            say(f"{run}: {reason}")
        say(f"written to {ablation.output}")
    if failed:
        raise RunError(
            f"{len(failed)} of {len(selected.cells)} runs failed: {', '.join(failed)}; the same command tries them again"
        )


def _directory(name: str) -> Path:
    from rf_training.experiments import ablation_directory

    return ablation_directory(get_settings(), name)


def _selected(
    grid: str,
    groups: Sequence[str],
    recipe: str,
    dataset: str | None,
    settings: Sequence[str],
    seeds: str,
    name: str,
) -> "Plan":
    from rf_platform.dataset.run_dataset import open_dataset
    from rf_platform.registry import Registry
    from rf_training.experiments import Plan, get_grid, no_seed, read_grid, select
    from rf_training.recipes import DatasetStatistics, get_recipe, override

    no_seed(settings)
    try:
        numbers = [int(seed) for seed in seeds.split(",")]
    except ValueError:
        raise UsageError(f"--seeds {seeds}: write whole numbers with commas between them, e.g. 0,1") from None
    known = read_grid(Path(grid)) if Path(grid).suffix in (".yaml", ".yml") else get_grid(grid)
    registry = Registry.of(get_settings())
    opened = open_dataset(registry, dataset)
    return Plan.make(
        name=name,
        dataset=opened,
        recipe=override(get_recipe(recipe, DatasetStatistics.of(opened)), settings),
        seeds=numbers,
        groups=select(known, groups),
    )


def _show(plan: "Plan", as_json: bool) -> None:
    """List the runs of a plan and where they stand."""
    from rf_training.experiments import CellRuns

    found = CellRuns(get_settings(), plan.dataset).find_all(plan.cells)
    standing = {name: str(found[name].status) if name in found else "to train" for name in plan.cells}
    if as_json:
        print_json({"name": plan.name, "dataset": plan.dataset, "runs": standing})
        return
    for group in plan.groups.values():
        say(f"{group.title} (--group {group.name})", style="bold")
        for arm, cells in plan.arm_cells(group).items():
            for seed, cell in zip(plan.seeds, cells, strict=True):
                line = f"  {arm}, seed {seed}: {standing[cell.name]}, {cell.name}"
                say(line)
    left = sum(state != "completed" for state in standing.values())
    say(f"{len(standing)} runs, {left} of them to train")
