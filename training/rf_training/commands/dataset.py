"""``rf dataset``: the platform's commands, and the view of a version, which knows the width that ``rf train`` would choose."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from rf_platform.cli.console import out_console, print_json
from rf_platform.cli.options import Json
from rf_platform.dataset.commands import app
from rf_platform.settings import get_settings

if TYPE_CHECKING:
    from rf_platform.dataset import Dataset

__all__ = ["app"]


@app.command()
def show(
    name: Annotated[str | None, typer.Argument(help="Dataset version; default: the newest.")] = None,
    memory: Annotated[
        bool,
        typer.Option(
            "--memory",
            help="Show what embedding tables of its features would take, shared and un-shared, beside one embedding per item.",
        ),
    ] = False,
    dim: Annotated[
        int | None,
        typer.Option(
            help="--memory: width of the embeddings; default: what `rf train` would choose.", show_default=False, min=1
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Show a dataset version: counts, vocabularies, protocol, fingerprint and where it lies.

    With --memory, the embedding tables by arithmetic: rows, weights and optimiser state of every domain. docs/scaling.md goes on
    from there to tables that no longer fit one machine.
    """
    from rf_platform.dataset.coverage import coverage_table
    from rf_platform.dataset.run_dataset import open_dataset
    from rf_platform.errors import UsageError
    from rf_platform.registry import Registry

    if dim is not None and not memory:
        raise UsageError(
            f"--dim={dim} is the width of the embeddings that --memory shows: add --memory, or leave it out"
        )
    settings = get_settings()
    dataset = open_dataset(Registry.of(settings), name)
    if memory:
        _show_memory(dataset, dim, as_json)
        return
    if as_json:
        print_json({**dataset.manifest, "targets": dataset.targets, "path": str(dataset.path)})
        return
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=f"dataset {dataset.name}", show_header=False)
    rows: dict[str, Any] = {
        **{k.replace("_", " "): f"{v:,}" for k, v in dataset.manifest["counts"].items()},
        **{f"vocabulary {k}": f"{v:,} rows" for k, v in dataset.manifest["vocabularies"].items()},
        **{
            ("protocol" if k == "name" else f"protocol {k.replace('_', ' ')}"): str(v)
            for k, v in dataset.protocol.items()
        },
        "fingerprint": dataset.fingerprint,
        "spec": dataset.spec.hash,
        "path": str(dataset.path),
    }
    for key, value in rows.items():
        table.add_row(escape(key), escape(value))
    out_console().print(table)
    if coverage := dataset.manifest.get("coverage"):
        out_console().print(coverage_table(coverage))


def _show_memory(dataset: "Dataset", dim: int | None, as_json: bool) -> None:
    from rf_platform.dataset.memory import memory_report, memory_tables
    from rf_training.recipes import DatasetStatistics, get_recipe

    feature_dim = None
    if dim is None:
        model = get_recipe("default", DatasetStatistics.of(dataset)).model
        dim, feature_dim = model.dim, model.feature_dim
    manifest = dataset.manifest
    report = memory_report(
        dataset.spec, manifest["vocabularies"], items=manifest["counts"]["items"], dim=dim, feature_dim=feature_dim
    )
    if as_json:
        print_json({"dataset": dataset.name, "fingerprint": dataset.fingerprint, **report.to_dict()})
        return
    for table in memory_tables(report):
        out_console().print(table)
