"""``rf evaluate``."""

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from rf_platform.cli.console import out_console, print_json, say
from rf_platform.cli.options import Json, Markdown, RunName, TieSeed, listing
from rf_platform.settings import get_settings

if TYPE_CHECKING:
    from rf_platform.dataset import Dataset
    from rf_platform.registry import RunRecord
    from rf_platform.settings import Settings
    from rf_training.evaluation import EvaluationReport, Split
    from rf_training.fold_in.arrivals import ArrivalCurve
    from rf_training.model_scorer import ModelScorer

app = typer.Typer()

LEAST_KEPT = 0.99
"""Share of the exact Recall@20 below which an index is not worth its speed."""


def _kinds() -> list[str]:
    from rf_serving.index import LOCAL_KINDS

    return list(LOCAL_KINDS)


@app.command(cls=listing(kinds=_kinds))
def evaluate(
    run: RunName = None,
    split: Annotated[
        Literal["test", "validation"],
        typer.Option(help="Split to rank: choose between models on validation, read test once at the end."),
    ] = "test",
    index: Annotated[
        str,
        typer.Option(
            help="Index to rank through as well, as a server would: auto for what `rf index build` takes by itself, or one of "
            "{kinds}. An exact index needs no second ranking."
        ),
    ] = "auto",
    arrivals: Annotated[
        bool,
        typer.Option(
            "--arrivals",
            help="Instead: how well new items are found after none, 1, 2, 5, 10, 20 and 50 of their first events, by the "
            "rule that a server moves them by.",
        ),
    ] = False,
    seed: TieSeed = 0,
    device: Annotated[
        Literal["auto", "cpu", "cuda"],
        typer.Option(help="Where the model encodes and scores; auto: where the run was trained, if that is there."),
    ] = "auto",
    markdown: Markdown = None,
    as_json: Json = False,
) -> None:
    """Rank the full catalog for every item that the dataset's protocol holds out, beside popularity and item-KNN.

    Items seen before are ranked once with and once without, by an exact scan and through an index as a server asks it; the line
    "as served" is what a server returns. Targets with and without training events are also shown apart. Every figure has a 95%
    interval.

    A model with goals is also asked for each goal, and for mixtures of it with the commonest one.

    With --arrivals, items without training events are ranked as a server has them after their first events, which the imported
    tables still have. They count in the order of time where the tables have times, else of other users in a random order.

    The result on the test split is kept with the run, in its report and in the bundles built from it. docs/evaluation.md explains
    every table.
    """
    import faiss
    import torch
    from rich.text import Text

    from rf_platform.dataset.run_dataset import open_run_dataset
    from rf_platform.files import check_output_file, replace_text
    from rf_platform.registry import Registry
    from rf_serving.bundle.build import IndexOptions
    from rf_serving.index import LOCAL_KINDS, ApproximateIndex, choose_kind, tune
    from rf_serving.search.index_scorer import IndexScorer
    from rf_training.baselines import BESIDE_EVERY_RUN, Popularity, TrainingData, compare
    from rf_training.config import TrainConfig
    from rf_training.evaluation import Scorer, Served, Split, report_markdown, report_tables
    from rf_training.evaluation.rendering import section_markdown, section_table
    from rf_training.fold_in.population import held_out_queries
    from rf_training.fold_in.rendering import curve_markdown, curve_table
    from rf_training.goal_curve import goal_curve
    from rf_training.model_scorer import ModelScorer
    from rf_training.run import completed_run, use_threads, write_metrics
    from rf_training.run_model import load_run_model
    from rf_training.targets.weights import TargetWeights

    check_output_file("--markdown", markdown)
    settings = get_settings()
    use_threads(settings)
    faiss.omp_set_num_threads(torch.get_num_threads())
    registry = Registry.of(settings)
    record = completed_run(settings, run)
    dataset = open_run_dataset(registry, record)
    kind = choose_kind(index, len(dataset.item_ids), option="--index", kinds=LOCAL_KINDS)
    model = ModelScorer(load_run_model(record, dataset.encoder, device), dataset)
    asked = Split.TEST if split == "test" else Split.VALIDATION
    if arrivals:
        curve = _arrivals(settings, record, dataset, model, asked, seed)
        if split == "test":
            write_metrics(record.path, registry, record.name, {"arrivals": curve.to_dict()})
        if markdown is not None:
            replace_text(markdown, curve_markdown(curve))
        if as_json:
            print_json({"run": record.name, **curve.to_dict()})
        else:
            out_console().print(curve_table(curve))
        return
    models: list[Scorer] = [model]
    online = model.reading(dataset.spec.history_length)
    short = online.max_history < model.max_history
    served = Served(scorer=online, exact=model.name, evaluated=not short)
    exact_of = {}
    if not kind.exact:
        vectors_ND = model.vectors_ND.cpu().numpy()
        approximate = kind.build(vectors_ND)
        assert isinstance(approximate, ApproximateIndex)
        tune(approximate, vectors_ND, held_out_queries(model, dataset), IndexOptions().aim)
        through = IndexScorer(model, approximate)
        models.append(through)
        exact_of[through.name] = model.name
        served = Served(
            scorer=IndexScorer(online, approximate) if short else through, exact=model.name, evaluated=not short
        )
    report = compare(
        models,
        BESIDE_EVERY_RUN,
        TrainingData.from_dataset(
            dataset,
            weights=TargetWeights.of(dataset, TrainConfig(**record.config.get("train", {})).weights(dataset.spec)),
        ),
        split=asked,
        seed=seed,
        reference=Popularity.name,
        exact_of=exact_of,
        served=served,
    )
    curve_of_goals = goal_curve(model, dataset, asked, seed)
    goals = {} if curve_of_goals is None else {"goals": curve_of_goals.to_dict()}
    if split == "test":
        write_metrics(record.path, registry, record.name, {"test": report.to_dict(), **goals})
    table = None if curve_of_goals is None else curve_of_goals.section()
    if markdown is not None:
        added = "" if table is None else f"\n### {table.title}\n\n{section_markdown(table)}\n"
        replace_text(markdown, report_markdown(report) + added)
    if as_json:
        print_json({"run": record.name, **report.to_dict(), **goals})
    else:
        out_console().print(report_tables(report))
        if table is not None:
            out_console().print(Text(table.title, style="italic"), section_table(table))
    _warn(report)


def _arrivals(
    settings: "Settings", record: "RunRecord", dataset: "Dataset", model: "ModelScorer", split: "Split", seed: int
) -> "ArrivalCurve":
    """Read the first events of the run's cold items from the tables, and rank with what they say."""
    from rf_platform.data.event_log import has_clock, seal
    from rf_training.fold_in.arrivals import arrival_curve
    from rf_training.fold_in.first_events import read_first_events
    from rf_training.run import recipe_from_dict

    with seal(settings).reading() as parts:
        interactions = settings.workspace.tables / "interactions.parquet"
        events = read_first_events(dataset, interactions, parts, clock=has_clock(settings), seed=seed)
    temperature = recipe_from_dict(record.config).train.temperature
    return arrival_curve(model, dataset, events, temperature=temperature, split=split, seed=seed)


def _warn(report: "EvaluationReport") -> None:
    """Name the indexes that lose too much of the ranking."""
    for each in report.approximations:
        if each.kept is not None and each.kept < LEAST_KEPT:
            say(
                f"{each.scorer} keeps {each.kept:.1%} of the exact Recall@20 (seen items {each.seen}), less than "
                f"{LEAST_KEPT:.0%}: serve this model with `rf index build --kind exact`",
                err=True,
            )
