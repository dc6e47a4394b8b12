"""``rf evaluate``."""

import os
from pathlib import Path
from typing import Annotated, Literal

import typer

from rf_platform.cli.console import out_console, print_json
from rf_platform.errors import UsageError
from rf_platform.settings import get_settings

app = typer.Typer()


@app.command()
def evaluate(
    run: Annotated[str | None, typer.Argument(help="Run; default: the last one.", show_default=False)] = None,
    split: Annotated[
        Literal["test", "validation"],
        typer.Option(help="Split to rank: choose between models on validation, read test once at the end."),
    ] = "test",
    seed: Annotated[int, typer.Option(help="Seed of the order of ties and of the bootstrap.")] = 0,
    markdown: Annotated[
        Path | None, typer.Option(help="Also write the tables to this file, as Markdown.", show_default=False)
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document instead of tables.")] = False,
) -> None:
    """Rank the full catalog for every user's held-out item, beside popularity and item-KNN, with 95% intervals.

    Every user's last interaction is the test item, the one before it the validation item. Items seen before are ranked once with
    and once without. The result is kept with the run and in the bundles built from it.
    """
    from rf_platform.dataset import Dataset
    from rf_platform.registry import Registry
    from rf_training.baselines import compare_with_baselines
    from rf_training.evaluation import Split, report_markdown, report_tables
    from rf_training.model.storage import load_model
    from rf_training.model_scorer import ModelScorer
    from rf_training.run import completed_run, use_threads, write_metrics

    if markdown is not None and not _writable(markdown):
        raise UsageError(f"--markdown {markdown} cannot be written: it needs a file in a directory that is there")
    settings = get_settings()
    use_threads(settings)
    registry = Registry.open(settings.platform_registry_url, root=settings.workspace.root)
    record = completed_run(settings, run)
    dataset = Dataset.open(registry.dataset(record.dataset).path)
    model = load_model(record.path / "best", dataset.encoder)
    report = compare_with_baselines(
        [ModelScorer(model, dataset)],
        dataset.sequences,
        n_items=len(dataset.item_ids),
        split=Split.TEST if split == "test" else Split.VALIDATION,
        seed=seed,
    )
    if split == "test":
        write_metrics(record.path, registry, record.name, {"test": report.to_dict()})
    if markdown is not None:
        markdown.write_text(report_markdown(report))
    if json:
        print_json({"run": record.name, **report.to_dict()})
    else:
        out_console().print(report_tables(report))


def _writable(file: Path) -> bool:
    if file.exists():
        return file.is_file() and os.access(file, os.W_OK)
    return file.parent.is_dir() and os.access(file.parent, os.W_OK)
