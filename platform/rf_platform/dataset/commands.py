"""``rf dataset build``."""

from typing import TYPE_CHECKING, Annotated

import typer

from rf_platform.cli.console import print_json, say, warn
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

    Events that were recorded since the import are part of it (docs/events.md).

    Writes a new version under the workspace's `datasets/`. Equal inputs give an equal fingerprint: then the version that is
    there already is used. docs/protocols.md explains what each protocol holds out.
    """
    from time import perf_counter

    from rf_platform.data.event_log import has_clock, seal
    from rf_platform.dataset.build import BuildOptions, build_dataset
    from rf_platform.dataset.protocols import Temporal, parse_cut, protocol_from_options
    from rf_platform.errors import UsageError
    from rf_platform.failures import read_json
    from rf_platform.features.read import read_definitions
    from rf_platform.features.store import open_store
    from rf_platform.peak_memory import peak_bytes
    from rf_platform.registry import Registry

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
    settings = get_settings()
    path = settings.workspace.tables / "import.json"
    record = read_json(path, "import again") if path.exists() else {}
    catalog = record.get("name", "catalog")
    if isinstance(chosen, Temporal) and record.get("time") == "position":
        raise UsageError(
            f"--protocol={protocol} needs times, but those of {catalog!r} were made from positions within each user "
            f'({path}: "time": "position"), so one moment for all users means nothing; choose another protocol'
        )
    definitions = read_definitions(open_store(settings), settings.feature_service)
    registry = Registry.of(settings)
    known = [d.version for d in registry.datasets() if d.name.startswith(f"{catalog}-v")]
    with seal(settings).reading() as events:
        dataset, new = build_dataset(
            definitions,
            settings.workspace.tables / "interactions.parquet",
            settings.workspace.datasets,
            catalog,
            BuildOptions(
                memory_limit=memory,
                threads=settings.threads,
                protocol=chosen,
                events=tuple(events),
                clock=has_clock(settings),
                after_version=max(known, default=0),
            ),
        )
    dataset.record(registry)
    for warning in dataset.manifest.get("warnings", ()):
        warn(warning)
    if as_json:
        found = {"targets": dataset.targets, "path": str(dataset.path), "new": new}
        print_json(
            {**dataset.manifest, **found, "seconds": round(perf_counter() - start, 2), "peak_bytes": peak_bytes()}
        )
        return
    counts = dataset.manifest["counts"]
    say(
        f"{'built' if new else 'unchanged:'} {dataset.name}: {counts['events']:,} events of {counts['users']:,} users and "
        f"{counts['items']:,} items ({counts['train']:,} train, {counts['validation']:,} validation, {counts['test']:,} test)\n"
        f"{_described(dataset)}"
    )


def _described(dataset: "Dataset") -> str:
    """Return the protocol with its parameters and numbers of warm and cold targets."""
    parameters = ", ".join(f"{k.replace('_', ' ')} {v}" for k, v in dataset.protocol.items() if k != "name")
    held_out = ", ".join(f"{n['warm']:,} warm and {n['cold']:,} cold {split}" for split, n in dataset.targets.items())
    return f"{dataset.protocol['name']}{f' ({parameters})' if parameters else ''}: {held_out} targets"
