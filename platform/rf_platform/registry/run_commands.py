"""``rf runs``: the training runs there are, what they were trained with, and what came of them."""

from dataclasses import asdict
from typing import Annotated, Any

import typer

from rf_platform.cli.options import Json

app = typer.Typer(no_args_is_help=True, help="List, show, compare and remove training runs.")


@app.command("list")
def list_(
    trials: Annotated[bool, typer.Option("--trials", help="Also trials, such as the runs of `rf ablate`.")] = False,
    removed: Annotated[bool, typer.Option("--removed", help="Also runs without files.")] = False,
    as_json: Json = False,
) -> None:
    """List runs, the newest first, with dataset, recipe, status and a few metrics."""
    from rich.markup import escape
    from rich.table import Table

    from rf_platform.cli.console import out_console, print_json, say
    from rf_platform.registry import Registry
    from rf_platform.registry.commands import headline
    from rf_platform.settings import get_settings

    runs = [
        run
        for run in reversed(Registry.of().runs())
        if (trials or not run.trial) and (removed or run.removed_at is None)
    ]
    if as_json:
        print_json([asdict(run) for run in runs])
        return
    if not runs:
        say(f"no runs in {get_settings().workspace.root} yet; train one with `rf train`")
        return
    table = Table("run", "dataset", "recipe", "status", "started (UTC)", "metrics")
    for run in runs:
        marks = [*(["trial"] if run.trial else []), *(["removed"] if run.removed_at else [])]
        status = " ".join([run.status, *(f"({mark})" for mark in marks)])
        table.add_row(
            escape(run.name),
            escape(run.dataset),
            run.recipe,
            status,
            f"{run.started_at:%Y-%m-%d %H:%M}",
            headline(run.metrics),
        )
    out_console().print(table)


@app.command()
def show(
    name: Annotated[str | None, typer.Argument(help="Run; default: the last one.", show_default=False)] = None,
    as_json: Json = False,
) -> None:
    """Show a run: dataset, configuration, metrics, times, bundles made from it."""
    from rich.markup import escape
    from rich.table import Table

    from rf_platform.cli.console import out_console, print_json
    from rf_platform.registry import Registry
    from rf_platform.registry.differences import flat

    registry = Registry.of()
    run = registry.run(name)
    bundles = [b.name for b in registry.bundles() if b.run == run.name and b.removed_at is None]
    if as_json:
        print_json({**asdict(run), "bundles": bundles})
        return
    table = Table(title=f"run {escape(run.name)}", show_header=False, title_justify="left")
    facts = {
        "dataset": run.dataset,
        "recipe": run.recipe,
        "status": f"{run.status}{f': {run.error}' if run.error else ''}",
        "trial": run.trial or None,
        "started": run.started_at,
        "ended": run.ended_at,
        "removed": run.removed_at,
        "bundles": ", ".join(bundles) or None,
        "path": run.path,
    }
    for key, value in (*facts.items(), *flat(run.config), *flat(run.metrics)):
        if value is not None:
            table.add_row(escape(key), escape(f"{value:.4g}" if isinstance(value, float) else str(value)))
    out_console().print(table)


@app.command()
def diff(
    first: Annotated[str, typer.Argument(help="A run.")],
    second: Annotated[str, typer.Argument(help="Another one.")],
    as_json: Json = False,
) -> None:
    """Compare two runs: settings and metrics that differ, and by how much."""
    from rich.markup import escape
    from rich.table import Table

    from rf_platform.cli.console import out_console, print_json, say
    from rf_platform.registry import Registry
    from rf_platform.registry.differences import differences, flat

    registry = Registry.of()
    runs = [registry.run(first), registry.run(second)]
    settings, metrics = (
        differences(*(dict(flat(getattr(run, part))) for run in runs)) for part in ("config", "metrics")
    )
    if runs[0].dataset != runs[1].dataset:
        settings = {"dataset": (runs[0].dataset, runs[1].dataset), **settings}
    if as_json:
        print_json({"first": first, "second": second, "settings": settings, "metrics": metrics})
        return
    if not settings and not metrics:
        say(f"{first} and {second} have the same dataset, settings and metrics")
        return
    table = Table("", escape(first), escape(second), "difference")
    for key, (one, other) in (*settings.items(), *metrics.items()):
        numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in (one, other))
        table.add_row(escape(key), _shown(one), _shown(other), f"{other - one:+.4g}" if numbers else "")
    out_console().print(table)


@app.command()
def rm(
    names: Annotated[list[str], typer.Argument(help="Runs.", metavar="RUN...")],
    as_json: Json = False,
) -> None:
    """Remove the files of runs: checkpoints, weights, reports. Bundles made from them stay, and the registry keeps the metrics.

    A run that a process is training is refused.
    """
    from rf_platform.cli.console import print_json, say
    from rf_platform.errors import NotFoundError
    from rf_platform.registry import Registry
    from rf_platform.registry.retention import Removal, remove, size_of

    registry = Registry.of()
    runs = tuple(registry.run(name) for name in dict.fromkeys(names))
    if gone := [run.name for run in runs if run.removed_at is not None and not run.path.exists()]:
        raise NotFoundError(f"the files of run '{gone[0]}' were removed before; leave it out")
    sizes = {run.name: size_of(run.path) for run in runs}
    remove(registry, Removal(bundles=(), runs=runs, datasets=()))
    if as_json:
        print_json([{"name": name, "bytes": size} for name, size in sizes.items()])
        return
    from rich.filesize import decimal

    for name, size in sizes.items():
        say(f"removed run {name}, {decimal(size)}")


def _shown(value: Any) -> str:
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
