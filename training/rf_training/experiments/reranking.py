"""Experiment on a run's re-rankers: a short training for every variant, compared on the validation split."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from time import process_time
from typing import Any

from rf_platform.failures import read_json, reading
from rf_platform.files import replace_text
from rf_training.evaluation.rendering import markdown_table
from rf_training.evaluation.sequences import Split
from rf_training.experiments.grid import Group
from rf_training.experiments.plan import Cell, digest, run_cells
from rf_training.rerank.cases import RerankCases, make_cases
from rf_training.rerank.examples import Examples
from rf_training.rerank.quality import LABELS, SELECTION, measure
from rf_training.rerank.recipe import RerankRecipe
from rf_training.rerank.scoring import item_states
from rf_training.rerank.store import towers_sha256
from rf_training.rerank.towers import Towers
from rf_training.rerank.training_run import fit_recipe, make_views, retriever_metrics

SHOWN = ("recall@10", "ndcg@10", "ndcg@20", "auc", "candidate auc")
_OF_EXAMPLES = ("places", "hard", "leave_out", "tower_dropout", "unknown", "views", "seed")
"""Settings that decide the examples: cells that agree in them share them."""


@dataclass(frozen=True, kw_only=True)
class VariantResult:
    """The measured training of one variant."""

    group: str
    variant: str
    recipe: str
    """Name of the cell, the identity of the recipe and the towers: equal ones are trained once."""
    best_epoch: int
    cpu_s: float
    """Processor time of training and validation, without the encoding of examples."""
    validation: dict[str, float]


class RerankExperiment:
    """Groups of variants around a recipe of a re-ranker, on the towers of one run.

    A result is kept in ``cells/IDENTITY.json`` as soon as it is there; ``table.md`` and ``results.json`` are written anew after
    every cell.

    Args:
        run: directory of the run.
        towers: of it.
        groups: what varies.
        base: what the groups vary.
        directory: where results are kept; those of earlier calls are used again.

    Raises:
        ConfigError: a variant is not usable; nothing was trained.
    """

    def __init__(
        self, run: Path, towers: Towers, groups: Mapping[str, Group], base: RerankRecipe, directory: Path
    ) -> None:
        self._towers, self._directory = towers, directory
        sha256 = towers_sha256(run)
        self._variants = [
            (group.name, variant, _cell(f"{group.name}: {variant}", recipe, sha256))
            for group in groups.values()
            for variant, recipe in group.recipes(base).items()
        ]
        self._seed = base.train.seed
        self._examples: tuple[str, list[Examples]] | None = None

    def run(self) -> tuple[dict[str, float], list[VariantResult]]:
        """Train the cells that have no result yet.

        Returns:
            The retriever's metrics and the results of the variants, in their order.

        Raises:
            RunError: interrupted; the same call goes on. Or a training failed.
        """
        validation = make_cases(self._towers, Split.VALIDATION, seed=self._seed)
        retriever = retriever_metrics(self._towers, validation)
        # One set of examples is held at a time: cells that share one come after each other.
        cells = {cell.name: cell for _, _, cell in reversed(self._variants)}  # equal ones once, as the first of them
        waiting = [cell for cell in reversed(cells.values()) if not self._path(cell).exists()]
        run_cells(
            "experiment",
            sorted(waiting, key=lambda cell: _examples_key(cell.recipe)),
            train=lambda cell: self._train(cell, validation),
            lock=lambda cell: self._directory / ".locks" / cell.name,
            after_each=lambda: self._write_tables(retriever),
            interrupted=lambda left: (
                f"the experiment was interrupted with {left} trainings to go; the same command goes on with it, results are in "
                f"{self._directory}"
            ),
        )
        self._write_tables(retriever)
        return retriever, self.results()

    def results(self) -> list[VariantResult]:
        """Return the results that are there, in the order of the variants.

        Raises:
            CorruptError: a file is damaged.
        """
        found = []
        for group, variant, cell in self._variants:
            path = self._path(cell)
            if not path.exists():
                continue
            remedy = "delete it and give the command again"
            with reading(path, remedy):
                values = read_json(path, remedy)
                kept = {name: values[name] for name in ("best_epoch", "cpu_s", "validation")}
            found.append(VariantResult(group=group, variant=variant, recipe=cell.name, **kept))
        return found

    def _path(self, cell: Cell[RerankRecipe]) -> Path:
        return self._directory / "cells" / f"{cell.name}.json"

    def _train(self, cell: Cell[RerankRecipe], validation: RerankCases) -> None:
        path = self._path(cell)
        if path.exists():
            return
        key = _examples_key(cell.recipe)
        if self._examples is None or self._examples[0] != key:
            self._examples = None
            self._examples = key, make_views(self._towers, cell.recipe.train, validation)
        values = train_variant(cell.recipe, self._towers, validation, self._examples[1])
        replace_text(path, json.dumps(values, indent=2, sort_keys=True) + "\n")

    def _write_tables(self, retriever: Mapping[str, float]) -> None:
        results = self.results()
        replace_text(self._directory / "table.md", _table(retriever, results))
        values = {"retriever": dict(retriever), "cells": [asdict(each) for each in results]}
        replace_text(self._directory / "results.json", json.dumps(values, indent=2) + "\n")


def train_variant(
    recipe: RerankRecipe, towers: Towers, validation: RerankCases, views: list[Examples]
) -> dict[str, Any]:
    """Train a re-ranker and return its result, as a file keeps it."""
    start = process_time()
    ranker, fitted = fit_recipe(recipe, towers, validation, views)
    return {
        "best_epoch": fitted.best_epoch,
        "cpu_s": process_time() - start,
        "validation": measure(ranker, item_states(ranker, towers.unit_ND), validation).means,
        "history": fitted.history,
        "recipe": asdict(recipe),
    }


def _table(retriever: Mapping[str, float], results: Sequence[VariantResult]) -> str:
    lines = [("", "retriever (dot)", *(f"{retriever[name]:.4f}" for name in SHOWN), "", "", "")]
    for result in results:
        gain = result.validation[SELECTION] / retriever[SELECTION] - 1 if retriever[SELECTION] else float("nan")
        shown = (f"{result.validation[name]:.4f}" for name in SHOWN)
        lines.append(
            (result.group, result.variant, *shown, f"{gain:+.1%}", str(result.best_epoch), f"{result.cpu_s:.0f}")
        )
    heads = ("group", "variant", *(LABELS[name] for name in SHOWN), f"Δ {LABELS[SELECTION]}", "best pass", "CPU s")
    return markdown_table(heads, lines, text_columns=2)


def _cell(label: str, recipe: RerankRecipe, towers_sha256: str) -> Cell[RerankRecipe]:
    return Cell(name=digest({"towers": towers_sha256, **asdict(recipe)}, 16), label=label, recipe=recipe)


def _examples_key(recipe: RerankRecipe) -> str:
    return json.dumps([getattr(recipe.train, name) for name in _OF_EXAMPLES])
