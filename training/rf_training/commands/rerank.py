"""``rf rerank``: the second stage."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer

from rf_platform.cli.console import out_console, print_json, say
from rf_platform.cli.options import Json, listing
from rf_platform.errors import UsageError
from rf_platform.settings import get_settings

app = typer.Typer(
    no_args_is_help=True, help="Train and compare re-rankers: a second stage on top of a run's retriever."
)


def _kinds() -> list[str]:
    from rf_training.rerank import RERANKERS

    return list(RERANKERS)


def _served() -> list[str]:
    from rf_training.rerank.kinds import served_kinds

    return served_kinds()


def _groups() -> list[str]:
    from rf_training.experiments.grids import RERANKING

    return list(RERANKING)


Run = Annotated[str | None, typer.Option(help="Completed run; default: the last one.", show_default=False)]
Changes = Annotated[
    list[str] | None,
    typer.Option(
        "--set", help="Change one setting, e.g. rerank.links=32 or train.loss=bce. Repeatable.", show_default=False
    ),
]


@app.command(cls=listing(kinds=_kinds, served=_served))
def train(
    run: Run = None,
    kind: Annotated[
        list[str] | None,
        typer.Option(
            help="One of {kinds}. Those that can be served are {served}, the others are there to be compared with. Repeatable, "
            "which encodes the examples once for all. Default: lime-mha.",
            show_default=False,
        ),
    ] = None,
    settings: Changes = None,
    name: Annotated[
        str | None, typer.Option(help="Name of the re-ranker in the run; default: its kind.", show_default=False)
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Train a re-ranker of that name anew.")] = False,
    keep: Annotated[
        bool, typer.Option("--keep", help="Do not choose it: the run is served as before.", show_default=False)
    ] = False,
    as_json: Json = False,
) -> None:
    """Train a re-ranker on the frozen towers of a completed run, and keep it in the run's directory.

    It learns to order what the retriever really returns before the latest training events of every user; the validation targets
    choose the best pass, and no pass where none is better than the retriever's own order. The run itself is not changed.

    The next `rf index build` puts it into the bundle, if it is of a kind that is served. docs/reranking.md explains all settings.
    """
    from rf_training.recipes import override
    from rf_training.rerank import RERANKERS, RerankConfig
    from rf_training.rerank.recipe import RerankRecipe
    from rf_training.rerank.training_run import best_served, train_rerankers

    kinds = list(dict.fromkeys(kind or [RerankConfig.kind]))
    if unknown := [each for each in kinds if each not in RERANKERS]:
        raise UsageError(f"--kind {unknown[0]}: no such re-ranker; choose from {', '.join(RERANKERS)}")
    if any(setting.startswith("rerank.kind=") for setting in settings or ()):
        raise UsageError("--set rerank.kind: the kind is given by --kind")
    if name is not None and len(kinds) > 1:
        raise UsageError(f"--name {name}: several kinds are named by themselves; leave it out")
    recipes = {name or each: override(RerankRecipe(), [f"rerank.kind={each}", *(settings or ())]) for each in kinds}
    results = train_rerankers(get_settings(), run, recipes, replace=replace, choose=not keep)
    best = None if keep else best_served(results)
    chosen = None if best is None else best.name
    if as_json:
        print_json({"chosen": chosen, "rerankers": [asdict(result) for result in results]})
        return
    for result in results:
        served = "; the next `rf index build` serves it" if result.name == chosen else ""
        say(
            f"re-ranker {result.name} of run {result.run}: best pass {result.best_epoch}, validation ndcg@10 "
            f"{result.retriever['ndcg@10']:.4f} -> {result.validation['ndcg@10']:.4f}, auc {result.retriever['auc']:.4f} -> "
            f"{result.validation['auc']:.4f} (seen items excluded){served}"
        )


@app.command()
def use(
    name: Annotated[str, typer.Argument(help="Name of the re-ranker in the run.")],
    run: Run = None,
) -> None:
    """Choose the re-ranker that the next bundles of a run are served with."""
    from rf_training.rerank.store import check_towers, choose_reranker, chosen_reranker
    from rf_training.run import completed_run

    record = completed_run(get_settings(), run)
    choose_reranker(record.path, name)
    chosen = chosen_reranker(record.path)
    assert chosen is not None
    check_towers(record.path, chosen)
    say(f"run {record.name} is served with re-ranker {name} from the next `rf index build` on")


@app.command()
def compare(
    rerankers: Annotated[
        list[str] | None,
        typer.Argument(help="Names of re-rankers in the run; default: all of them.", show_default=False),
    ] = None,
    run: Run = None,
    split: Annotated[
        Literal["test", "validation"],
        typer.Option(help="Split to rank: choose between re-rankers on validation, read test once at the end."),
    ] = "validation",
    seed: Annotated[int, typer.Option(help="Seed of ties, of uniform items and of the bootstrap.")] = 0,
    markdown: Annotated[
        Path | None,
        typer.Option(help="Also write the table to this file, as Markdown with all metrics.", show_default=False),
    ] = None,
    as_json: Json = False,
) -> None:
    """Put a run's re-rankers and its retriever's own order into one table: same users, same candidates, paired differences.

    The ranks are those in the full catalog: a target that the retriever did not find among its 1,000 candidates keeps its place
    behind them.
    """
    from rf_platform.files import check_output_file, replace_text
    from rf_training.evaluation import Split
    from rf_training.rerank import RerankConfig, make_ranker
    from rf_training.rerank.cases import make_cases
    from rf_training.rerank.comparison import compare_rerankers, comparison_markdown, comparison_table
    from rf_training.rerank.ranker import DOT
    from rf_training.rerank.store import open_reranker, reranker_names
    from rf_training.rerank.training_run import open_towers
    from rf_training.run import completed_run, use_threads

    check_output_file("--markdown", markdown)
    settings = get_settings()
    use_threads(settings)
    record = completed_run(settings, run)
    names = [name for name in rerankers or reranker_names(record.path) if name != DOT]
    rankers = {name: open_reranker(record.path, name) for name in names}
    record, towers = open_towers(settings, record.name)
    rankers = {DOT: make_ranker(RerankConfig(kind=DOT), towers.unit_ND.shape[1]).eval(), **rankers}
    cases = make_cases(towers, Split.TEST if split == "test" else Split.VALIDATION, seed=seed)
    on_device = {name: ranker.to(towers.device) for name, ranker in rankers.items()}
    found = compare_rerankers(record.name, towers, cases, on_device, seed=seed)
    if markdown is not None:
        replace_text(markdown, comparison_markdown(found))
    if as_json:
        print_json(found.to_dict())
    else:
        out_console().print(comparison_table(found))


@app.command(cls=listing(groups=_groups))
def experiment(
    run: Run = None,
    group: Annotated[
        list[str] | None,
        typer.Option(
            help="Only this group, one of {groups}, or only some of its variants: loss, or loss:bce. Repeatable.",
            show_default=False,
        ),
    ] = None,
    settings: Changes = None,
    name: Annotated[str, typer.Option(help="Name of the experiment.")] = "lime",
    as_json: Json = False,
) -> None:
    """Vary one thing at a time around a re-ranker's recipe, on the validation split.

    Interrupt it at will: the same command goes on where it stopped. Results are in the run's directory under
    rerank-experiments/NAME: table.md, results.json.
    """
    from rf_platform.bundle.manifest import check_name
    from rf_training.experiments import select
    from rf_training.experiments.grids import RERANKING
    from rf_training.experiments.reranking import RerankExperiment
    from rf_training.recipes import override
    from rf_training.rerank.recipe import RerankRecipe
    from rf_training.rerank.training_run import open_towers
    from rf_training.run import use_threads

    use_threads(get_settings())
    groups = select(RERANKING, group or ())
    base = override(RerankRecipe(), settings or ())
    record, towers = open_towers(get_settings(), run)
    directory = record.path / "rerank-experiments" / check_name("experiment", name)
    retriever, results = RerankExperiment(record.path, towers, groups, base, directory).run()
    if as_json:
        print_json({"run": record.name, "retriever": retriever, "cells": [asdict(each) for each in results]})
        return
    say((directory / "table.md").read_text())
    say(f"written to {directory}")
