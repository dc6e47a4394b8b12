"""``rf compare``."""

from typing import Annotated, Literal

import typer

from rf_platform.cli.console import out_console, print_json
from rf_platform.cli.options import Json, Markdown, RunName, TieSeed, listing
from rf_platform.errors import UsageError
from rf_platform.settings import get_settings

app = typer.Typer()


def _simple() -> tuple[str, ...]:
    from rf_training.baselines import SIMPLE

    return SIMPLE


def _others() -> list[str]:
    from rf_training.baselines import BASELINES, SIMPLE

    return [name for name in BASELINES if name not in SIMPLE]


@app.command(cls=listing(simple=_simple, others=_others))
def compare(
    run: RunName = None,
    baselines: Annotated[
        str,
        typer.Option(
            help="Comma-separated names, or 'simple' ({simple}), or 'all' (also {others}, which need `make install-bench` and "
            "take from a minute to hours to train)."
        ),
    ] = "simple",
    dataset: Annotated[
        str | None, typer.Option(help="Rank the baselines alone, on this dataset version.", show_default=False)
    ] = None,
    split: Annotated[
        Literal["test", "validation"],
        typer.Option(help="Split to rank: choose between models on validation, read test once at the end."),
    ] = "test",
    seed: TieSeed = 0,
    markdown: Markdown = None,
    as_json: Json = False,
) -> None:
    """Put a run's model and the baselines into one table: same users, same full catalog, paired differences.

    All learn from the training events of the dataset's protocol and rank the targets it holds out, those that training never met
    also apart. What a library trained is kept in the workspace, so that an interrupted comparison goes on where it stopped.
    """
    from rf_platform.dataset.run_dataset import open_dataset, open_run_dataset
    from rf_platform.files import check_output_file, replace_text
    from rf_platform.registry import Registry
    from rf_training.baselines import FittedBaselines, TrainingData, baseline_names
    from rf_training.baselines import compare as compare_scorers
    from rf_training.evaluation import Scorer, Split, report_markdown, report_tables
    from rf_training.model_scorer import ModelScorer
    from rf_training.run import completed_run, use_threads
    from rf_training.run_model import load_run_model
    from rf_training.targets.weights import TargetWeights

    if run is not None and dataset is not None:
        raise UsageError("--dataset ranks the baselines alone: leave it out, or leave out the run")
    check_output_file("--markdown", markdown)
    names = baseline_names(baselines)
    settings = get_settings()
    use_threads(settings)
    registry = Registry.of(settings)
    record = completed_run(settings, run) if dataset is None else None
    opened = open_run_dataset(registry, record) if record else open_dataset(registry, dataset)
    models: list[Scorer] = []
    if record is not None:
        models.append(ModelScorer(load_run_model(record, opened.encoder), opened))
    report = compare_scorers(
        models,
        names,
        TrainingData.from_dataset(
            opened, threads=settings.threads or 1, weights=TargetWeights.of(opened, opened.spec.weights)
        ),
        split=Split.TEST if split == "test" else Split.VALIDATION,
        seed=seed,
        fitted=FittedBaselines(settings.workspace.root / "baselines", fingerprint=opened.fingerprint),
    )
    if markdown is not None:
        replace_text(markdown, report_markdown(report))
    if as_json:
        print_json({"run": record.name if record else None, "dataset": opened.name, **report.to_dict()})
    else:
        out_console().print(report_tables(report))
