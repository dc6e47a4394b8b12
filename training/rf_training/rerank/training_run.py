"""A re-ranker's training from the outside: a completed run, a recipe, a directory in the run and a result."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from rf_platform.cli.console import track
from rf_platform.dataset.run_dataset import open_run_dataset
from rf_platform.errors import InterruptedRunError
from rf_platform.locks import sole
from rf_platform.registry import Registry, RunRecord
from rf_platform.settings import Settings
from rf_training.evaluation.sequences import Split
from rf_training.rerank.cases import RerankCases, make_cases
from rf_training.rerank.config import RerankConfig
from rf_training.rerank.examples import BAR, Examples, make_view, training_positions
from rf_training.rerank.kinds import make_ranker, save_ranker, served_kinds
from rf_training.rerank.quality import SELECTION, measure
from rf_training.rerank.ranker import DOT, Ranker
from rf_training.rerank.recipe import RerankRecipe, RerankTraining
from rf_training.rerank.scoring import item_states
from rf_training.rerank.store import (
    check_free,
    choose_reranker,
    publish_reranker,
    towers_sha256,
    write_facts,
)
from rf_training.rerank.towers import Towers
from rf_training.rerank.trainer import Fit, fit
from rf_training.run import completed_run, use_threads
from rf_training.run_model import load_run_model


@dataclass(frozen=True, kw_only=True)
class RerankResult:
    """Result of the training of one re-ranker."""

    run: str
    name: str
    """Name of the re-ranker in the run."""
    kind: str
    best_epoch: int
    """Pass, from 1, of the kept weights; 0 for the retriever's own order."""
    validation: dict[str, float]
    """Metrics on all validation targets."""
    retriever: dict[str, float]
    """The same of the retriever's order."""


def open_towers(settings: Settings, run: str | None) -> tuple[RunRecord, Towers]:
    """Return a completed run and its frozen towers.

    Raises:
        NotFoundError: there is no such run.
        UsageError: the run is not complete.
    """
    record = completed_run(settings, run)
    registry = Registry.of(settings)
    dataset = open_run_dataset(registry, record)
    return record, Towers(load_run_model(record, dataset.encoder), dataset)


def train_rerankers(
    settings: Settings,
    run: str | None,
    recipes: Mapping[str, RerankRecipe],
    *,
    replace: bool = False,
    choose: bool = True,
) -> list[RerankResult]:
    """Train re-rankers on a completed run and put them into the run's directory; the run itself is left as it is.

    The examples and the validation targets are encoded once for all of them.

    Args:
        settings: the workspace.
        run: name of the run; default: the one started last.
        recipes: complete configurations by name of the re-ranker, which have the same examples.
        replace: train those anew that are there.
        choose: serve the run with the best of them by validation, among those that can be served.

    Raises:
        NotFoundError: there is no such run.
        UsageError: the run is not complete, or a name is taken.
        RunError: training failed or was interrupted; those that were complete stay.
    """
    use_threads(settings)
    record = completed_run(settings, run)
    with sole(record.path / ".reranking.lock", f"the re-rankers of run '{record.name}' are being trained"):
        return _train_rerankers(settings, record, recipes, replace=replace, choose=choose)


def _train_rerankers(
    settings: Settings, record: RunRecord, recipes: Mapping[str, RerankRecipe], *, replace: bool, choose: bool
) -> list[RerankResult]:
    for name in recipes:
        check_free(record.path, name, replace=replace)
    record, towers = open_towers(settings, record.name)
    training = next(iter(recipes.values())).train
    done: list[RerankResult] = []
    try:
        validation = make_cases(towers, Split.VALIDATION, seed=training.seed)
        retriever = retriever_metrics(towers, validation)
        views = make_views(towers, training, validation)
        for name, recipe in recipes.items():
            ranker, fitted = fit_recipe(recipe, towers, validation, views)
            result = RerankResult(
                run=record.name,
                name=name,
                kind=ranker.kind,
                best_epoch=fitted.best_epoch,
                validation=measure(ranker, item_states(ranker, towers.unit_ND), validation).means,
                retriever=retriever,
            )
            with publish_reranker(record.path, name) as directory:
                save_ranker(directory, ranker)
                write_facts(directory, _training(record, towers, recipe, views[0]), _metrics(result, fitted))
            done.append(result)
    except KeyboardInterrupt:
        waiting = [name for name in recipes if name not in [result.name for result in done]]
        raise InterruptedRunError(
            f"the training was interrupted; nothing is kept of {', '.join(waiting)}: start again what is missing"
        ) from None
    if choose and (best := best_served(done)) is not None:
        choose_reranker(record.path, best.name)
    return done


def best_served(results: Sequence[RerankResult]) -> RerankResult | None:
    """Return the best re-ranker by validation among those of a kind that is served; None without any."""
    return max(
        (each for each in results if each.kind in served_kinds()), key=lambda r: r.validation[SELECTION], default=None
    )


def fit_recipe(
    recipe: RerankRecipe, towers: Towers, validation: RerankCases, views: list[Examples]
) -> tuple[Ranker, Fit]:
    """Make a re-ranker and train it; the same seed gives the same weights.

    Args:
        recipe: complete configuration.
        towers: what it stands on.
        validation: what chooses the best pass; all of them or, as the recipe says, some.
        views: the examples.
    """
    torch.manual_seed(recipe.train.seed)
    ranker = make_ranker(recipe.rerank, towers.unit_ND.shape[1]).to(towers.device)
    return ranker, fit(ranker, towers, views, validation.sampled(recipe.train.validation_cases), recipe.train)


def make_views(towers: Towers, training: RerankTraining, validation: RerankCases) -> list[Examples]:
    """Encode and search the training places, as often as the settings say."""
    places = len(training_positions(towers.dataset, training.places)[0])
    with track("training candidates", training.views * places) as progress:
        found = validation.found(BAR)
        return [make_view(towers, training, found, number, progress) for number in range(training.views)]


def retriever_metrics(towers: Towers, cases: RerankCases) -> dict[str, float]:
    """Return the metrics of the retriever's own order."""
    dot = make_ranker(RerankConfig(kind=DOT), towers.unit_ND.shape[1]).to(towers.device).eval()
    return measure(dot, item_states(dot, towers.unit_ND), cases).means


def _training(record: RunRecord, towers: Towers, recipe: RerankRecipe, view: Examples) -> dict[str, Any]:
    return {
        "run": record.name,
        "towers_sha256": towers_sha256(record.path),
        "dataset": towers.dataset.name,
        "dataset_fingerprint": towers.dataset.fingerprint,
        "recipe": asdict(recipe),
        "places": view.places,
        "examples": len(view),
        "known_before_leaving_out": view.known,
        "leave_out_strength": view.strength,
    }


def _metrics(result: RerankResult, fitted: Fit) -> dict[str, Any]:
    return {
        "best_epoch": result.best_epoch,
        "weight": fitted.weight,
        "validation": result.validation,
        "retriever": result.retriever,
        "history": fitted.history,
    }
