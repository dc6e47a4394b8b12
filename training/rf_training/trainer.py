"""The training loop: steps, validation, checkpoints, and an exact resume, by one process or several."""

import math
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rf_platform.cli.console import Tracker, track
from rf_platform.dataset import Dataset
from rf_platform.errors import CorruptError, RunError
from rf_training.callbacks import Callback, EpochReport, RunReport, StepReport, StopTraining, TensorBoardCurves
from rf_training.checkpoint import (
    Position,
    last_checkpoint,
    load_state,
    load_tables,
    random_states,
    save_checkpoint,
    seed_rank,
    set_random_state,
)
from rf_training.cold import ColdCalibration
from rf_training.config import Recipe
from rf_training.device import CPU, prefer_determinism
from rf_training.distributed.plan import sharded_domains
from rf_training.distributed.process_group import World, lost_peer
from rf_training.loading.batches import Batch, BatchLoader
from rf_training.loss import LossTerms, LossWatch
from rf_training.model.retrievalformer import RetrievalFormer
from rf_training.model.storage import read_weights
from rf_training.optimizer import WarmupCosine, WeightAverage, copy_into, make_optimizer, replicated, table_rate
from rf_training.parallel_model import ParallelModel, place
from rf_training.tensors import weights_file
from rf_training.validation import SELECTION_METRIC, Validation

INITIAL = "initial"
"""Directory of the weights a run starts from, as ``save_model`` writes them; without it they are random."""


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """Result of a finished run."""

    name: str
    """Name of the run."""
    best_epoch: int
    """Epoch, from 1, of the weights in ``best/``; 0 for the weights that the run started from."""
    validation: dict[str, float]
    """Metrics of the best epoch on the validation split, seen items excluded."""
    steps: int
    """Optimiser steps in all."""
    cold: ColdCalibration | None
    """Calibration of cold items; None without one, see :func:`rf_training.cold.calibrate`."""

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "TrainResult":
        """Rebuild a result from ``dataclasses.asdict``."""
        cold = values["cold"]
        return cls(**{**values, "cold": None if cold is None else ColdCalibration(**cold)})


class Trainer:
    """Trains one model in one directory: ``checkpoints/`` (to resume), ``best/`` (to serve), ``history.jsonl``, ``tensorboard/``.

    What happens meanwhile is told to :class:`~rf_training.callbacks.Callback` objects, which may end it early.

    Args:
        recipe: all settings.
        dataset: what is learned from.
        directory: of the run, on a disk that all processes see.
        world: the processes that train together, each with a trainer of its own; default: this one alone.
        callbacks: told on process 0 of steps and epochs, after the curves for TensorBoard.
    """

    def __init__(
        self,
        recipe: Recipe,
        dataset: Dataset,
        directory: Path,
        world: World | None = None,
        callbacks: Sequence[Callback] = (),
    ) -> None:
        self.recipe, self.dataset, self.directory, self.world = recipe, dataset, directory, world or World()
        train = recipe.train
        self.device = self.world.device(train.device)
        prefer_determinism(self.device)
        torch.manual_seed(train.seed)
        self.model = RetrievalFormer(recipe.model, dataset.encoder, sharded_domains(recipe.sharding, dataset.encoder))
        place(self.model, self.device)
        self.average = WeightAverage(self.model, train.ema_decay) if train.ema_decay else None
        self.parallel = ParallelModel(self.model, recipe, self.world, self.device)
        self.losses = LossWatch(self.device)
        self._weights = replicated(self.model)
        rate = table_rate(train, recipe.sharding)
        self.optimizer = make_optimizer(self.model, train, self.parallel.fused, rate)
        seed_rank(train.seed, self.world.rank)
        self.loader = BatchLoader(dataset, recipe, self.world.share)
        self._set_goals()
        self.steps = self.loader.steps(0)
        self.schedule = WarmupCosine(
            peak=train.learning_rate,
            final=train.final_learning_rate,
            warmup=math.ceil(train.warmup_epochs * self.steps),
            total=train.epochs * self.steps,
        )
        # No device has all tables of a model with spread tables.
        where = self.device if self.parallel.whole else CPU
        self.validation = Validation(recipe, dataset, directory, self.loader.sides, where)
        # An empty validation split is told before anything is trained.
        self.world.on_main(lambda: len(self.validation.cases))
        self.position = Position()
        self._callbacks = [TensorBoardCurves(), *callbacks] if self.world.main else []
        self._result: TrainResult | None = None
        self._stopped = False

    def run(self, resume: bool = False) -> TrainResult:
        """Train to the end, from the start or from the last checkpoint.

        Raises:
            RunError: the loss is no longer finite, another process was lost, or a checkpoint could not be written.
            CorruptError: the checkpoint to resume from is damaged, is of another model, or ``best/`` is gone.
        """
        try:
            return self._run(resume)
        except RuntimeError as error:
            if self.world.size == 1 or not (cause := lost_peer(error)):
                raise
            self.world.broken = True
            last = last_checkpoint(self.directory)
            resumed = f"goes on from the last complete checkpoint, {last.name}" if last else "starts it over"
            raise RunError(
                f"process {self.world.rank} of {self.world.size} lost the connection to another one at step "
                f"{self.position.total_steps} ({cause}); `rf train --resume --name {self.directory.name}` "
                f"{resumed}"
            ) from error

    def _run(self, resume: bool) -> TrainResult:
        train = self.recipe.train
        if not (resume and self._restore()):
            self._start()
        done, epochs = self.position.total_steps, train.epochs
        with ExitStack() as stack:
            progress = stack.enter_context(
                track(f"train {self.directory.name}", epochs * self.steps, visible=self.world.main)
            )
            progress.advance(done)
            self._begin(stack)
            while self.position.epoch < epochs and not self._stopped:
                self._epoch(progress)
                metrics = self._validate()
                note = f"epoch {self.position.epoch}: validation {SELECTION_METRIC} {metrics[SELECTION_METRIC]:.4f}"
                progress.advance(0, note=note)
                self._stopped = self.world.on_main(partial(self._tell_epoch, metrics))
            self._result = TrainResult.from_dict(self.world.on_main(lambda: asdict(self._finish())))
        return self._result

    def _begin(self, stack: ExitStack) -> None:
        """Tell the callbacks of the run, and of its end when the block ends."""
        report = RunReport(
            name=self.directory.name,
            directory=self.directory,
            recipe=self.recipe,
            dataset=self.dataset,
            steps=self.recipe.train.epochs * self.steps,
            done=self.position.total_steps,
        )

        def end(callback: Callback, kind: object, error: BaseException | None, traceback: object) -> None:
            callback.on_end(self._result, error)

        for callback in self._callbacks:
            callback.on_start(report)
            stack.push(partial(end, callback))

    def _finish(self) -> TrainResult:
        cold = self.validation.calibrate()
        return TrainResult(
            name=self.directory.name,
            best_epoch=self.position.best_epoch + 1,
            validation=self.validation.best_metrics(),
            steps=self.position.total_steps,
            cold=cold,
        )

    def _epoch(self, progress: Tracker) -> None:
        train, position = self.recipe.train, self.position
        self.model.train()
        for batch in self.loader.epoch(position.epoch, position.step):
            terms, norm = self.step(batch)
            self._tell_step(terms, norm)
            progress.advance(note=self.losses.note)
            if self._stopped and self.world.size == 1:
                break
            if position.step % train.checkpoint_steps == 0 and position.step < self.steps:
                self._save()
        self.losses.read()

    def step(self, batch: Batch) -> tuple[LossTerms, Tensor]:
        """Take one optimiser step; all processes do, each with its part of the batch.

        Returns:
            The step's loss, of all processes, and the norm of the gradient of what every process has.

        Raises:
            RunError: the loss is not finite; where a device computes, of one of the latest steps.
        """
        train, position = self.recipe.train, self.position
        rate = self.schedule.at(position.total_steps)
        self.optimizer.set_learning_rate(rate)
        part = self.parallel.loss(batch)
        terms = LossTerms(*self.world.sum(torch.stack([part.loss.detach(), part.alignment, part.uniformity])))
        step, epoch = position.step, position.epoch + 1
        self.losses.add(
            terms.loss,
            lambda loss: (
                f"the loss is {loss} at step {step} of epoch {epoch} (learning rate {rate:.2g}); lower train.learning_rate or "
                f"train.clip_norm, check the numeric features for extreme values, and start a new run, e.g. `rf train --set "
                f"train.learning_rate={train.learning_rate / 4:g}` (a resumed one would come to the same)"
            ),
        )
        self.optimizer.zero_grad()
        self.parallel.backward(part.loss)
        # Gradients of sharded tables have been used up: their optimiser normalises each row's step by itself.
        norm = torch.nn.utils.clip_grad_norm_(list(self._weights.values()), train.clip_norm)
        self.optimizer.step()
        if self.average is not None:
            self.average.update(self._weights)
        position.step += 1
        position.total_steps += 1
        return terms, norm

    def _tell_step(self, terms: LossTerms, norm: Tensor) -> None:
        rate = self.schedule.at(self.position.total_steps - 1)

        def read() -> dict[str, float]:
            names = ("loss", "alignment", "uniformity", "gradient_norm")
            values = torch.stack([terms.loss, terms.alignment, terms.uniformity, norm]).tolist()
            return {**dict(zip(names, values, strict=True)), "learning_rate": rate}

        report = StepReport(step=self.position.total_steps, epoch=self.position.epoch + 1, read=read)
        for callback in self._callbacks:
            try:
                callback.on_step(report)
            except StopTraining:
                self._stopped = True

    def _tell_epoch(self, metrics: Mapping[str, float]) -> bool:
        """Tell the callbacks of the epoch that was validated last; returns whether the training is to end."""
        position, stopped = self.position, self._stopped
        best = position.best_epoch == position.epoch - 1
        report = EpochReport(epoch=position.epoch, step=position.total_steps, metrics=metrics, best=best)
        for callback in self._callbacks:
            try:
                callback.on_epoch(report)
            except StopTraining:
                stopped = True
        return stopped

    def _measure(self, state: dict[str, Tensor] | None) -> dict[str, float]:
        """Validate the weights of now, on rank 0, and keep them if they are the best."""
        if state is not None:
            model = self.validation.plain_model(state)
        else:
            model = self.model if self.average is None else self.average.model
        metrics = self.validation.metrics(model)
        if metrics[SELECTION_METRIC] > self.position.best:
            self.validation.keep(model, metrics)
        return metrics

    def _evaluate(self) -> dict[str, float]:
        """Return the validation metrics, on every process: rank 0 ranks with a model that has everything.

        That is the one trained, on its device; where tables are spread over processes, another one on the CPU.
        """
        state = None if self.parallel.whole else self.parallel.full_state(self.average)
        return self.world.on_main(lambda: self._measure(state))

    def _validate(self) -> dict[str, float]:
        metrics, position = self._evaluate(), self.position
        if metrics[SELECTION_METRIC] > position.best:
            position.best, position.best_epoch = metrics[SELECTION_METRIC], position.epoch
        position.epoch, position.step = position.epoch + 1, 0
        if self.world.main:
            self.validation.note(position.epoch, position.total_steps, metrics)
        self._save()
        return metrics

    def load_weights(self, state: dict[str, Tensor]) -> None:
        """Start from the weights of a model that is not sharded; every process gives the same ones.

        Raises:
            ValueError: they are of another model.
        """
        self.parallel.load_full_state(state)
        if self.average is not None:
            self.average.restart(self._weights)

    def _set_goals(self) -> None:
        """Give the model, and the average of its weights, the shares of the goals in this dataset."""
        if self.loader.goals is not None:
            for model in (self.model, *([] if self.average is None else [self.average.model])):
                assert model.goals is not None
                model.goals.mix_G.copy_(torch.from_numpy(self.loader.goals.mix_G))

    def _start(self) -> None:
        """Load the weights the run starts from, if any: they are validated, and may be the best in the end."""
        initial = self.directory / INITIAL
        if self.world.main:
            self.validation.forget_after(-1)
        if not weights_file(initial).exists():
            return
        try:
            self.load_weights(read_weights(initial, self.recipe.model))
        except (RuntimeError, ValueError) as error:
            raise CorruptError(f"the weights in {initial} do not fit this run's recipe and dataset: {error}") from error
        self._set_goals()  # those that were loaded are of the data before
        metrics = self._evaluate()
        self.position.best = metrics[SELECTION_METRIC]
        if self.world.main:
            self.validation.note(0, 0, metrics)

    def _tables(self) -> dict[str, Any]:
        """Return this process's parts of sharded tables and of their optimiser's state, as they are: writing changes them."""
        return {**self.parallel.tables, **self.parallel.optimizer_state()}

    def _save(self) -> None:
        self.losses.read()
        save_checkpoint(
            self.directory,
            self.position.total_steps,
            {
                "position": asdict(self.position),
                "model": {name: weight.detach() for name, weight in self._weights.items()},
                "average": None if self.average is None else self.average.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "random": random_states(self.world, self.device),
            },
            self._tables(),
            self.world,
        )

    def _restore(self) -> bool:
        """Load the last checkpoint, written by any number of processes; False for a run that ended before its first."""
        # Hosts may see a shared file system at different times: one process chooses for all.
        last = self.world.on_main(lambda: str(last_checkpoint(self.directory) or ""))
        if not last:
            return False
        checkpoint = Path(last)
        state = load_state(checkpoint)
        try:
            self.position = Position(**state["position"])
            with torch.no_grad():
                copy_into(self._weights, state["model"])
            if self.average is not None:
                self.average.load_state_dict(state["average"])
            self.optimizer.load_state_dict(state["optimizer"])
            random = list(state["random"])
        except (RuntimeError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise CorruptError(
                f"checkpoint {checkpoint} is of another model than the one this run's recipe and dataset {self.dataset.path} "
                f"make; start a new run"
            ) from error
        load_tables(checkpoint, self._tables())
        self.parallel.set_optimizer_step(self.position.total_steps)
        if self.world.rank < len(random):
            set_random_state(random[self.world.rank], self.device)
        else:
            seed_rank(self.recipe.train.seed, self.world.rank, self.position.total_steps)
        if self.position.best >= 0 and not self.validation.kept:
            raise CorruptError(
                f"{self.directory / 'best'} is gone, and with it the weights of epoch {self.position.best_epoch + 1}, the best "
                f"so far; start a new run"
            )
        if self.world.main:
            self.validation.forget_after(self.position.epoch)
        return True
