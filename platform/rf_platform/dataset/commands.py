"""``rf dataset build``, ``rf dataset doctor`` and ``rf dataset list``."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from rf_platform.cli.console import out_console, print_json, say, warn
from rf_platform.cli.options import Json, listing
from rf_platform.settings import get_settings

if TYPE_CHECKING:
    from rf_platform.dataset import Dataset

app = typer.Typer(no_args_is_help=True, help="Build and show point-in-time training data.")


def _protocols() -> list[str]:
    from rf_platform.dataset.protocols import PROTOCOLS

    return list(PROTOCOLS)


@app.command(cls=listing(protocols=_protocols))
def build(
    as_json: Json = False,
    memory: Annotated[
        str,
        typer.Option(
            help="DuckDB's memory limit; more than that is spilled to disk. The whole build takes some 500 MB more."
        ),
    ] = "3GB",
    protocol: Annotated[str, typer.Option(help="What is held out: {protocols}.")] = "leave-one-out",
    seed: Annotated[
        int | None,
        typer.Option(help="leave-one-out-cold, cold-items: chooses the users or items; default 0.", show_default=False),
    ] = None,
    cold_users: Annotated[
        int | None,
        typer.Option(help="leave-one-out-cold: users whose test item is made cold; default 500.", show_default=False),
    ] = None,
    validation_cold_users: Annotated[
        int | None,
        typer.Option(
            help="leave-one-out-cold: other users whose validation item is made cold; default 250.", show_default=False
        ),
    ] = None,
    cold_share: Annotated[
        float | None,
        typer.Option(
            help="cold-items: share of the items that is cold in the test part; default 0.2.", show_default=False
        ),
    ] = None,
    validation_cold_share: Annotated[
        float | None,
        typer.Option(
            help="cold-items: share, of other items, that is cold in the validation part; default 0.05.",
            show_default=False,
        ),
    ] = None,
    validation_cut: Annotated[
        str | None,
        typer.Option(
            help="temporal: where the validation part begins, a share of the events or a time; default 0.8.",
            show_default=False,
        ),
    ] = None,
    test_cut: Annotated[
        str | None,
        typer.Option(
            help="temporal: where the test part begins, a share of the events or a time; default 0.9.",
            show_default=False,
        ),
    ] = None,
    new_items_only: Annotated[
        bool, typer.Option("--new-items-only", help="temporal: only events with new items are targets.")
    ] = False,
) -> None:
    """Join every interaction with the features that were known just before it, and learn vocabularies on the training split.

    Events that were recorded since the import are part of it (docs/events.md). The share of events, and of items or users, that
    have a value of each feature is shown and kept in the manifest; a view that no event sees anything of is named.

    Writes a new version under the workspace's `datasets/`. Equal inputs give an equal fingerprint: then the version that is
    there already is used. docs/protocols.md explains what each protocol holds out.
    """
    from time import perf_counter

    from rf_platform.dataset.coverage import coverage_table
    from rf_platform.dataset.protocols import parse_cut, protocol_from_options
    from rf_platform.dataset.version import build_version
    from rf_platform.peak_memory import peak_bytes

    start = perf_counter()
    chosen = protocol_from_options(
        protocol,
        {
            "seed": seed,
            "cold_users": cold_users,
            "validation_cold_users": validation_cold_users,
            "cold_share": cold_share,
            "validation_cold_share": validation_cold_share,
            "validation_cut": parse_cut(validation_cut, "--validation-cut"),
            "test_cut": parse_cut(test_cut, "--test-cut"),
            "new_items_only": new_items_only or None,
        },
    )
    built = build_version(get_settings(), chosen, memory)
    dataset, new = built.dataset, built.new
    for warning in built.warnings:
        warn(warning)
    if as_json:
        found = {"targets": dataset.targets, "path": str(dataset.path), "new": new}
        print_json(
            {**dataset.manifest, **found, "seconds": round(perf_counter() - start, 2), "peak_bytes": peak_bytes()}
        )
        return
    counts = dataset.manifest["counts"]
    if coverage := dataset.manifest.get("coverage"):
        out_console().print(coverage_table(coverage))
    say(
        f"{'built' if new else 'unchanged:'} {dataset.name}: {counts['events']:,} events of {counts['users']:,} users and "
        f"{counts['items']:,} items ({counts['train']:,} train, {counts['validation']:,} validation, {counts['test']:,} test)\n"
        f"{_described(dataset)}"
    )


@app.command()
def doctor(
    view: Annotated[
        list[str] | None,
        typer.Option(help="Only this view; repeatable. Default: all of users and items.", show_default=False),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the events that are drawn, and of what they are held against.")] = 0,
    as_json: Json = False,
) -> None:
    """Look for leaks in the times of your views: move each by a day, ahead and behind, and see what that does to the validation.

    A view is measured by itself: how often its values, counted on training events, score the item that was taken in a
    validation event above one that is as popular (50% is chance). Events are split by the protocol of the newest dataset. If a
    day ahead lifts that and a day behind changes nothing, the view is made of what happens, and its times keep it out. If a
    day behind lowers it, the view lives from the last day: fresh if it is written before the event, a leak if it is counted
    after it.

    [bold]Examples[/]

        rf dataset doctor
        rf dataset doctor --view user_counts --json

    Exit code 1 if a view lives from the last day. docs/data.md reads the table with you.
    """
    from rich.table import Table

    from rf_platform.dataset.canaries.workspace import workspace_canaries

    found = workspace_canaries(get_settings(), view or (), seed)
    if as_json:
        print_json([each.to_dict() for each in found])
    else:
        table = Table("view", "knows", "a day ahead", "other rows", "a day behind", "other rows", "finding")
        for each in found:
            moved = [
                text
                for shift in (each.ahead, each.behind)
                for text in (f"{shift.value:+.3f} [{shift.low:+.3f}, {shift.high:+.3f}]", f"{shift.moved:.0%}")
            ]
            color = "[bold red]" if each.finding.suspect else ""
            table.add_row(each.view, f"{each.knows:.1%}", *moved, f"{color}{each.finding}")
        out_console().print(table)
        for each in found:
            say(each.sentence)
    if any(each.finding.suspect for each in found):
        raise typer.Exit(1)


@app.command("list")
def list_(as_json: Json = False) -> None:
    """List dataset versions, the newest first, with protocol, counts, size and the runs trained on each."""
    from rich.filesize import decimal
    from rich.markup import escape
    from rich.table import Table

    from rf_platform.dataset import Dataset
    from rf_platform.errors import RfError
    from rf_platform.registry import Registry
    from rf_platform.registry.retention import size_of

    registry = Registry.of()
    records = [d for d in reversed(registry.datasets()) if d.removed_at is None]
    runs = [run for run in registry.runs() if run.removed_at is None and not run.trial]
    rows = []
    for record in records:
        try:
            protocol: str | None = Dataset.open(record.path).protocol["name"]
        except RfError:  # shown without
            protocol = None
        trained = [run.name for run in runs if run.dataset == record.name]
        rows.append({**asdict(record), "protocol": protocol, "bytes": size_of(record.path), "runs": trained})
    if as_json:
        print_json(rows)
        return
    if not rows:
        say(f"no datasets in {get_settings().workspace.root} yet; build one with `rf dataset build`")
        return
    table = Table("dataset", "built (UTC)", "protocol", "events", "users", "items", "size", "fingerprint", "runs")
    for row in rows:
        counts = (f"{row['counts'].get(name, 0):,}" for name in ("events", "users", "items"))
        table.add_row(
            escape(row["name"]),
            f"{row['created_at']:%Y-%m-%d %H:%M}",
            row["protocol"] or "[red]cannot be read[/]",
            *counts,
            decimal(row["bytes"]),
            row["fingerprint"][:12],
            escape(", ".join(row["runs"])),
        )
    out_console().print(table)


def _described(dataset: "Dataset") -> str:
    """Return the protocol with its parameters and numbers of warm and cold targets."""
    parameters = ", ".join(f"{k.replace('_', ' ')} {v}" for k, v in dataset.protocol.items() if k != "name")
    held_out = ", ".join(f"{n['warm']:,} warm and {n['cold']:,} cold {split}" for split, n in dataset.targets.items())
    return f"{dataset.protocol['name']}{f' ({parameters})' if parameters else ''}: {held_out} targets"
