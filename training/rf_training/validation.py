"""The weights that are kept: validated after every epoch, the best written to ``best/``, and calibrated at the end."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rf_platform.dataset import Dataset
from rf_platform.failures import read_json
from rf_platform.files import replace_text
from rf_training.cold import ColdCalibration, calibrate
from rf_training.config import Recipe
from rf_training.device import CPU
from rf_training.evaluation.cases import EvaluationCases
from rf_training.evaluation.metrics import REPORT_METRICS
from rf_training.evaluation.ranking import rank_targets
from rf_training.evaluation.sequences import Split
from rf_training.loading.tables import EncodedSides
from rf_training.model.retrievalformer import RetrievalFormer
from rf_training.model.storage import load_model, save_model
from rf_training.model_scorer import ModelScorer
from rf_training.notes import add_note, read_notes
from rf_training.targets.weights import TargetWeights

SELECTION_METRIC = "ndcg@20"
"""Metric that chooses the best checkpoint, on the validation split with seen items excluded."""


class Validation:
    """Ranks the validation targets, and keeps the best weights in a run's ``best/``; on rank 0 only.

    Args:
        recipe: of the run.
        dataset: of the run.
        directory: of the run.
        sides: the dataset's items and users, as training reads them.
        device: where the weights that are kept are calibrated.
    """

    def __init__(
        self, recipe: Recipe, dataset: Dataset, directory: Path, sides: EncodedSides, device: torch.device = CPU
    ) -> None:
        self._device = device
        self._recipe, self._dataset, self._sides, self._best = recipe, dataset, sides, directory / "best"
        self._history = directory / "history.jsonl"
        self._plain: RetrievalFormer | None = None
        self._weights = TargetWeights.of(dataset, recipe.train.weights(dataset.spec))

    @cached_property
    def cases(self) -> EvaluationCases:
        """The validation targets, or as many of them as are ranked after every epoch."""
        sequences, train = self._dataset.sequences, self._recipe.train
        cases = EvaluationCases.from_sequences(
            sequences, n_items=self._dataset.n_items, split=Split.VALIDATION, trained=self._dataset.trained_items
        )
        return cases.sampled(train.validation_cases, train.seed)

    def plain_model(self, state: Mapping[str, Tensor]) -> RetrievalFormer:
        """Return a model on the CPU, with all of its tables, that has the weights given."""
        if self._plain is None:
            # Its first weights are not used: a run that goes on makes another, and must draw no other numbers for it.
            with torch.random.fork_rng(devices=[]):
                self._plain = RetrievalFormer(self._recipe.model, self._dataset.encoder)
        self._plain.load_state_dict(state, assign=True)
        return self._plain

    def metrics(self, model: RetrievalFormer) -> dict[str, float]:
        """Return the validation metrics of a model, seen items excluded, each target by its weight in training."""
        scorer = ModelScorer(model, self._dataset, sides=self._sides)
        ranks = rank_targets(scorer, self.cases, seed=self._recipe.train.seed)
        weights = None if self._weights is None else self._weights(self.cases.stops)
        return {
            metric.label.lower(): float(
                np.mean(metric(ranks.excluded))
                if weights is None
                else np.average(metric(ranks.excluded), weights=weights)
            )
            for metric in REPORT_METRICS
        }

    def note(self, epoch: int, steps: int, metrics: Mapping[str, float]) -> None:
        """Add a line to ``history.jsonl``: metrics after ``epoch`` epochs."""
        add_note(self._history, {"epoch": epoch, "steps": steps, **metrics})

    def forget_after(self, epoch: int) -> None:
        """Drop what ``history.jsonl`` has of epochs after ``epoch``: noted, but the checkpoint after them was not written."""
        if self._history.exists():
            kept = [note for note in read_notes(self._history) if note.get("epoch", epoch) <= epoch]
            replace_text(self._history, "".join(json.dumps(note) + "\n" for note in kept))

    @property
    def kept(self) -> bool:
        """Whether there are weights in ``best/``."""
        return (self._best / "validation.json").exists()

    def keep(self, model: RetrievalFormer, metrics: Mapping[str, float]) -> None:
        """Make these weights those that are evaluated and served."""
        save_model(self._best, model)
        _write(self._best / "validation.json", metrics)

    def best_metrics(self) -> dict[str, float]:
        """Return the metrics of the weights that are kept."""
        found: dict[str, float] = read_json(self._best / "validation.json", "start a new run")
        return found

    def calibrate(self) -> ColdCalibration | None:
        """Set the shift for cold items in the weights that are kept, and validate them again with it."""
        train = self._recipe.train
        self._plain = None  # its tables are not needed beside those that are kept
        model = load_model(self._best, self._dataset.encoder, self._device)
        model.cold_shift.zero_()
        if not train.cold_budget:
            return None
        found = calibrate(
            model,
            self._dataset,
            budget=train.cold_budget,
            weight=train.cold_weight,
            seed=train.seed,
            sides=self._sides,
        )
        if found is not None:
            model.cold_shift.fill_(found.shift)
            _write(self._best / "cold.json", asdict(found))
            _write(self._best / "validation.json", self.metrics(model))
            save_model(self._best, model)
        return found


def _write(path: Path, values: Mapping[str, Any]) -> None:
    replace_text(path, json.dumps(values, indent=2) + "\n")
