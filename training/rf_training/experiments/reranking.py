"""The grid of settings on the validation split: a short training each, resumable, and one table."""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from time import process_time
from typing import Any

from rf_platform.cli.console import track
from rf_platform.errors import RunError
from rf_training.evaluation.sequences import Split
from rf_training.experiments.rerank_grid import Cell
from rf_training.recipes import override
from rf_training.rerank.cases import RerankCases, make_cases
from rf_training.rerank.comparison import head, markdown
from rf_training.rerank.examples import Examples
from rf_training.rerank.quality import SELECTION, measure
from rf_training.rerank.recipe import RerankRecipe
from rf_training.rerank.scoring import item_sides
from rf_training.rerank.store import towers_sha256
from rf_training.rerank.towers import Towers
from rf_training.rerank.training_run import fit_recipe, make_views, retriever_metrics

SHOWN = ("recall@10", "ndcg@10", "ndcg@20", "auc", "candidate auc")
_OF_EXAMPLES = ("places", "hard", "leave_out", "tower_dropout", "unknown", "views", "seed")
"""Settings that decide the examples: cells that agree in them share them."""


@dataclass(frozen=True, kw_only=True)
class CellResult:
    """What came of a cell."""

    group: str
    variant: str
    recipe: str
    """Identity of the recipe, towers and cases: equal ones are trained once."""
    best_epoch: int
    cpu_s: float
    """Processor time of training and validation, without the encoding of examples."""
    validation: dict[str, float]


def run_experiment(
    run: Path, towers: Towers, cells: Sequence[Cell], base: RerankRecipe, directory: Path
) -> tuple[dict[str, float], list[CellResult]]:
    """Train the cells that are not there yet, and write ``table.md`` and ``results.json``, after every one of them anew.

    Args:
        run: directory of the run.
        towers: of it.
        cells: what to train.
        base: what their changes are applied to.
        directory: where results are kept; that of cells that were trained before is used again.

    Returns:
        The retriever's metrics and those of the cells, in their order.

    Raises:
        UsageError: a change of a cell names no setting.
        RunError: interrupted; the same call goes on.
    """
    recipes = [override(base, cell.changes) for cell in cells]
    keys = [_identity(run, recipe) for recipe in recipes]
    kept = directory / "cells"
    kept.mkdir(parents=True, exist_ok=True)
    validation = make_cases(towers, Split.VALIDATION, seed=base.train.seed)
    retriever = retriever_metrics(towers, validation)
    # One set of examples is held at a time: cells that share one come after each other.
    order = sorted(range(len(cells)), key=lambda i: _examples_key(recipes[i]))
    held: tuple[str, list[Examples]] | None = None
    try:
        with track("experiment", len(cells)) as progress:
            for i in order:
                path = kept / f"{keys[i]}.json"
                if not path.exists():
                    if held is None or held[0] != _examples_key(recipes[i]):
                        held = None
                        held = _examples_key(recipes[i]), make_views(towers, recipes[i].train, validation)
                    _write(path, _train(recipes[i], towers, validation, held[1]))
                progress.advance(note=f"{cells[i].group}: {cells[i].variant}")
                write_tables(directory, retriever, _results(kept, cells, keys))
    except KeyboardInterrupt:
        raise RunError(
            f"the experiment was interrupted; the same command goes on with it, results are in {directory}"
        ) from None
    return retriever, _results(kept, cells, keys)


def write_tables(directory: Path, retriever: Mapping[str, float], results: Sequence[CellResult]) -> None:
    """Write ``table.md`` and ``results.json``."""
    lines = [("", "retriever (dot)", *(f"{retriever[name]:.4f}" for name in SHOWN), "", "", "")]
    for result in results:
        gain = result.validation[SELECTION] / retriever[SELECTION] - 1 if retriever[SELECTION] else float("nan")
        lines.append(
            (
                result.group,
                result.variant,
                *(f"{result.validation[name]:.4f}" for name in SHOWN),
                f"{gain:+.1%}",
                str(result.best_epoch),
                f"{result.cpu_s:.0f}",
            )
        )
    heads = ("group", "variant", *(head(name) for name in SHOWN), "Δ NDCG@10", "best pass", "CPU s")
    _write_text(directory / "table.md", markdown(heads, lines))
    _write_text(
        directory / "results.json",
        json.dumps({"retriever": dict(retriever), "cells": [asdict(each) for each in results]}, indent=2) + "\n",
    )


def _train(recipe: RerankRecipe, towers: Towers, validation: RerankCases, views: list[Examples]) -> dict[str, Any]:
    start = process_time()
    ranker, fitted = fit_recipe(recipe, towers, validation, views)
    return {
        "best_epoch": fitted.best_epoch,
        "cpu_s": process_time() - start,
        "validation": measure(ranker, item_sides(ranker, towers.unit_ND), validation).means,
        "history": fitted.history,
        "recipe": asdict(recipe),
    }


def _results(kept: Path, cells: Sequence[Cell], keys: Sequence[str]) -> list[CellResult]:
    results = []
    for cell, key in zip(cells, keys, strict=True):
        path = kept / f"{key}.json"
        if path.exists():
            found = json.loads(path.read_text())
            results.append(
                CellResult(
                    group=cell.group,
                    variant=cell.variant,
                    recipe=key,
                    **{name: found[name] for name in ("best_epoch", "cpu_s", "validation")},
                )
            )
    return results


def _identity(run: Path, recipe: RerankRecipe) -> str:
    known = json.dumps({"towers": towers_sha256(run), **asdict(recipe)}, sort_keys=True)
    return hashlib.sha256(known.encode()).hexdigest()[:16]


def _examples_key(recipe: RerankRecipe) -> str:
    return json.dumps([getattr(recipe.train, name) for name in _OF_EXAMPLES])


def _write(path: Path, values: dict[str, Any]) -> None:
    _write_text(path, json.dumps(values, indent=2, sort_keys=True) + "\n")


def _write_text(path: Path, text: str) -> None:
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    temporary.write_text(text)
    os.replace(temporary, path)
