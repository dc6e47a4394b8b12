"""``rf dataset``: build and show."""

import json as json_module
from typing import Annotated, Any

import typer

from rf_platform.cli.console import out_console, print_json
from rf_platform.settings import get_settings

app = typer.Typer(no_args_is_help=True, help="Build and show point-in-time training data.")

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of a table.")]


@app.command()
def build(
    json: Json = False,
    memory: Annotated[str, typer.Option(help="DuckDB's memory limit; more than that is spilled to disk.")] = "3GB",
) -> None:
    """Join every interaction with the features that were known just before it, and learn vocabularies on the training split.

    Writes a new version under the workspace's `datasets/`. Equal inputs give an equal fingerprint: then the version that is
    there already is used.
    """
    from rf_platform.dataset.build import BuildOptions, build_dataset
    from rf_platform.features.read import read_definitions
    from rf_platform.features.store import open_store
    from rf_platform.registry import Registry

    settings = get_settings()
    definitions = read_definitions(open_store(settings), settings.feature_service)
    record = settings.workspace.tables / "import.json"
    catalog = json_module.loads(record.read_text())["name"] if record.exists() else "catalog"
    registry = Registry.open(settings.platform_registry_url, root=settings.workspace.root)
    known = [d.version for d in registry.datasets() if d.name.startswith(f"{catalog}-v")]
    dataset, new = build_dataset(
        definitions,
        settings.workspace.tables / "interactions.parquet",
        settings.workspace.datasets,
        catalog,
        BuildOptions(memory_limit=memory, threads=settings.threads, after_version=max(known, default=0)),
    )
    registry.record_dataset(
        name=dataset.name,
        version=dataset.manifest["version"],
        path=dataset.path,
        fingerprint=dataset.fingerprint,
        spec_hash=dataset.spec.hash,
        counts=dataset.manifest["counts"],
    )
    if json:
        print_json({**dataset.manifest, "path": str(dataset.path), "new": new})
        return
    counts = dataset.manifest["counts"]
    out_console().print(
        f"{'built' if new else 'unchanged:'} {dataset.name}: {counts['events']:,} events of {counts['users']:,} users and "
        f"{counts['items']:,} items ({counts['train']:,} train, {counts['validation']:,} validation, {counts['test']:,} test)",
        highlight=False,
        soft_wrap=True,
    )


@app.command()
def show(
    name: Annotated[str | None, typer.Argument(help="Dataset version; default: the newest.")] = None, json: Json = False
) -> None:
    """Show a dataset version: counts, vocabularies, fingerprint and where it lies."""
    from rf_platform.dataset import Dataset
    from rf_platform.registry import Registry

    settings = get_settings()
    from pathlib import Path

    dataset = Dataset.open(
        Path(Registry.open(settings.platform_registry_url, root=settings.workspace.root).dataset(name).path)
    )
    if json:
        print_json({**dataset.manifest, "path": str(dataset.path)})
        return
    from rich.table import Table

    table = Table(title=f"dataset {dataset.name}", show_header=False)
    rows: dict[str, Any] = {
        **{k.replace("_", " "): f"{v:,}" for k, v in dataset.manifest["counts"].items()},
        **{f"vocabulary {k}": f"{v:,} rows" for k, v in dataset.manifest["vocabularies"].items()},
        "split": dataset.manifest["split"],
        "fingerprint": dataset.fingerprint,
        "spec": dataset.spec.hash,
        "path": str(dataset.path),
    }
    for key, value in rows.items():
        table.add_row(key, value)
    out_console().print(table)
