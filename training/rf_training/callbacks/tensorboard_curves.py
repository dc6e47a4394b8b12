"""Curves for TensorBoard, in a run's ``tensorboard/``: every training writes them."""

from contextlib import ExitStack
from typing import Any

from rf_training.callbacks.callback import Callback, EpochReport, RunReport, StepReport
from rf_training.loss import READ_EVERY
from rf_training.notes import Board


class TensorBoardCurves(Callback):
    """``train/loss`` and its like at every :data:`READ_EVERY` steps, ``validation/ndcg@20`` and its like after every epoch.

    What an earlier sitting has written of steps that it did not keep is void for TensorBoard.
    """

    def on_start(self, run: RunReport) -> None:
        """Open a new file."""
        self._open = ExitStack()
        self._board = self._open.enter_context(Board.open(run.directory / "tensorboard", run.done + 1))

    def on_step(self, step: StepReport) -> None:
        """Write a point of each curve, now and then."""
        if step.step % READ_EVERY == 0:
            self._board.add("train", step.values, step.step)

    def on_epoch(self, epoch: EpochReport) -> None:
        """Write the metrics."""
        self._board.add("validation", epoch.metrics, epoch.step)
        self._board.flush()

    def on_end(self, result: Any, error: BaseException | None) -> None:
        """Close the file."""
        if error is None:
            self._open.close()
        else:  # a disk that is full is told once
            self._open.__exit__(type(error), error, error.__traceback__)
