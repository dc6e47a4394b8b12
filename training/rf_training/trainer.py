"""The training loop: steps, validation, checkpoints, and an exact resume."""

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.tensorboard import SummaryWriter

from rf_platform.cli.console import Tracker, track
from rf_platform.dataset import Dataset
from rf_platform.errors import CorruptError, RunError
from rf_training.checkpoint import Position, load_checkpoint, save_checkpoint
from rf_training.cold import ColdCalibration, calibrate
from rf_training.config import Recipe
from rf_training.evaluation.cases import EvaluationCases
from rf_training.evaluation.metrics import REPORT_METRICS
from rf_training.evaluation.ranking import rank_targets
from rf_training.evaluation.sequences import Split
from rf_training.loading.batches import BatchLoader
from rf_training.model.retrievalformer import RetrievalFormer
from rf_training.model.storage import load_model, save_model
from rf_training.model_scorer import ModelScorer
from rf_training.optimizer import make_optimizer
from rf_training.schedule import WarmupCosine
from rf_training.step import batch_loss

SELECTION_METRIC = "ndcg@20"
"""What chooses the best checkpoint, on the validation split with seen items excluded."""


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """What a finished run reports."""

    name: str
    """Name of the run."""
    best_epoch: int
    """Epoch, from 1, whose weights are kept in ``best/``."""
    validation: dict[str, float]
    """Metrics of the best epoch on the validation split, seen items excluded."""
    steps: int
    """Optimiser steps in all."""
    cold: ColdCalibration | None
    """How cold items were calibrated; None for a model without ids or a recipe without a budget for it."""


class Trainer:
    """Trains one model in one directory: ``last.pt`` (to resume), ``best/`` (to serve), ``history.jsonl``, ``tensorboard/``."""

    def __init__(self, recipe: Recipe, dataset: Dataset, directory: Path) -> None:
        self.recipe, self.dataset, self.directory = recipe, dataset, directory
        train = recipe.train
        torch.manual_seed(train.seed)
        self.model = RetrievalFormer(recipe.model, dataset.encoder)
        self.average = (
            AveragedModel(self.model, multi_avg_fn=get_ema_multi_avg_fn(train.ema_decay))  # type: ignore[no-untyped-call]
            if train.ema_decay
            else None
        )
        self.optimizer = make_optimizer(self.model, train)
        self.loader = BatchLoader(dataset, recipe)
        self.steps = self.loader.steps(0)
        self.schedule = WarmupCosine(
            peak=train.learning_rate,
            final=train.final_learning_rate,
            warmup=math.ceil(train.warmup_epochs * self.steps),
            total=train.epochs * self.steps,
        )
        self.cases = EvaluationCases.from_sequences(
            dataset.sequences, n_items=len(dataset.item_ids), split=Split.VALIDATION
        )
        self.position = Position()

    def run(self, resume: bool = False) -> TrainResult:
        """Train to the end, from the start or from the last checkpoint.

        Raises:
            RunError: the loss is no longer finite.
            CorruptError: the checkpoint to resume from is damaged, is of another model, or ``best/`` is gone.
        """
        if resume:
            self._restore()
        train = self.recipe.train
        with (
            SummaryWriter(str(self.directory / "tensorboard"), purge_step=self.position.total_steps + 1) as board,
            track(f"train {self.directory.name}", train.epochs * self.steps) as progress,
        ):
            progress.advance(self.position.total_steps)
            while self.position.epoch < train.epochs:
                self._epoch(board, progress)
                metrics = self._validate(board)
                self._end_epoch(metrics)
                progress.advance(
                    0,
                    note=f"epoch {self.position.epoch}: validation {SELECTION_METRIC} {metrics[SELECTION_METRIC]:.4f}",
                )
        cold = self._calibrate()
        best = json.loads((self.directory / "best" / "validation.json").read_text())
        return TrainResult(
            name=self.directory.name,
            best_epoch=self.position.best_epoch + 1,
            validation=best,
            steps=self.position.total_steps,
            cold=cold,
        )

    def _epoch(self, board: SummaryWriter, progress: Tracker) -> None:
        train, position = self.recipe.train, self.position
        self.model.train()
        for batch in self.loader.epoch(position.epoch, position.step):
            self.optimizer.set_learning_rate(self.schedule.at(position.total_steps))
            terms = batch_loss(self.model, batch, train)
            loss = terms.loss.item()
            if not math.isfinite(loss):
                raise RunError(
                    f"the loss is {loss} at step {position.step} of epoch {position.epoch + 1} (learning rate "
                    f"{self.schedule.at(position.total_steps):.2g}); lower train.learning_rate or train.clip_norm, check the "
                    f"numeric features for extreme values, and start a new run, e.g. `rf train --set "
                    f"train.learning_rate={train.learning_rate / 4:g}` (a resumed one would come to the same)"
                )
            self.optimizer.zero_grad()
            terms.loss.backward()  # type: ignore[no-untyped-call]
            norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), train.clip_norm)
            self.optimizer.step()
            if self.average is not None:
                self.average.update_parameters(self.model)
            position.step += 1
            position.total_steps += 1
            if position.total_steps % 20 == 0:
                self._log(board, loss, terms.alignment, terms.uniformity, norm)
            progress.advance(note=f"loss {loss:.3f}")
            if position.step % train.checkpoint_steps == 0 and position.step < self.steps:
                self._save()

    def _log(self, board: SummaryWriter, loss: float, alignment: Tensor, uniformity: Tensor, norm: Tensor) -> None:
        for name, value in {
            "train/loss": loss,
            "train/alignment": alignment.item(),
            "train/uniformity": uniformity.item(),
            "train/gradient_norm": norm.item(),
            "train/learning_rate": self.schedule.at(self.position.total_steps - 1),
        }.items():
            board.add_scalar(name, value, self.position.total_steps)

    @property
    def evaluated(self) -> RetrievalFormer:
        """The weights that are evaluated and served: the running average, where there is one."""
        model = self.model if self.average is None else self.average.module
        assert isinstance(model, RetrievalFormer)
        return model

    def _calibrate(self) -> ColdCalibration | None:
        """Set the shift for cold items in the weights that were chosen, and validate them again with it."""
        train, best = self.recipe.train, self.directory / "best"
        model = load_model(best, self.dataset.encoder)
        model.cold_shift.zero_()
        found = calibrate(model, self.dataset, budget=train.cold_budget, seed=train.seed) if train.cold_budget else None
        if found is not None:
            model.cold_shift.fill_(found.shift)
            (best / "cold.json").write_text(json.dumps(asdict(found), indent=2) + "\n")
            (best / "validation.json").write_text(json.dumps(self._metrics(model), indent=2) + "\n")
            save_model(best, model)
        return found

    def _metrics(self, model: RetrievalFormer) -> dict[str, float]:
        ranks = rank_targets(ModelScorer(model, self.dataset), self.cases, seed=self.recipe.train.seed)
        return {metric.label.lower(): float(np.mean(metric(ranks.excluded))) for metric in REPORT_METRICS}

    def _validate(self, board: SummaryWriter) -> dict[str, float]:
        metrics = self._metrics(self.evaluated)
        for name, value in metrics.items():
            board.add_scalar(f"validation/{name}", value, self.position.total_steps)
        board.flush()
        return metrics

    def _end_epoch(self, metrics: dict[str, float]) -> None:
        position = self.position
        if metrics[SELECTION_METRIC] > position.best:
            position.best, position.best_epoch = metrics[SELECTION_METRIC], position.epoch
            save_model(self.directory / "best", self.evaluated)
            (self.directory / "best" / "validation.json").write_text(json.dumps(metrics, indent=2) + "\n")
        with (self.directory / "history.jsonl").open("a") as file:
            file.write(json.dumps({"epoch": position.epoch + 1, "steps": position.total_steps, **metrics}) + "\n")
        position.epoch, position.step = position.epoch + 1, 0
        self._save()

    def _save(self) -> None:
        save_checkpoint(
            self.directory / "last.pt",
            {
                "position": asdict(self.position),
                "model": self.model.state_dict(),
                "average": None if self.average is None else self.average.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "random": torch.get_rng_state(),
            },
        )

    def _restore(self) -> None:
        """Go back to the last checkpoint; a run that ended before its first one starts over."""
        path, best = self.directory / "last.pt", self.directory / "best"
        if path.exists():
            state = load_checkpoint(path)
            self.position = Position(**state["position"])
            try:
                self.model.load_state_dict(state["model"])
                if self.average is not None:
                    self.average.load_state_dict(state["average"])
                self.optimizer.load_state_dict(state["optimizer"])
            except (RuntimeError, ValueError, TypeError) as error:
                raise CorruptError(
                    f"checkpoint {path} is of another model than the one this run's recipe and dataset {self.dataset.path} "
                    f"make; start a new run"
                ) from error
            torch.set_rng_state(state["random"])
            if self.position.best_epoch >= 0 and not (best / "validation.json").exists():
                raise CorruptError(
                    f"{best} is gone, and with it the weights of epoch {self.position.best_epoch + 1}, the best so far; start "
                    f"a new run"
                )
        history = self.directory / "history.jsonl"
        if history.exists():  # an epoch may have been noted and the checkpoint after it not written
            lines = history.read_text().splitlines(keepends=True)
            history.write_text("".join(lines[: self.position.epoch]))
