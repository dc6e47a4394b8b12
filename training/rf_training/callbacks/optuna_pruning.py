"""Pruning of an Optuna trial by the validation of its epochs."""

from typing import Any

from rf_training.callbacks.callback import Callback, EpochReport


class OptunaPruning(Callback):
    """Reports every epoch to a trial, and raises ``optuna.TrialPruned`` where the study's pruner says so.

    Args:
        trial: an ``optuna.trial.Trial``; its study maximises.
        metric: the validation metric that is reported.
        prune: False reports alone.
        reported: epochs that an earlier sitting of the trial has reported.
    """

    def __init__(
        self, trial: Any, metric: str = "ndcg@20", *, prune: bool = True, reported: frozenset[int] = frozenset()
    ) -> None:
        self._trial, self._metric, self._prune, self._reported = trial, metric, prune, reported

    def on_epoch(self, epoch: EpochReport) -> None:
        """Report the epoch; end the trial if it falls behind."""
        if epoch.epoch not in self._reported:
            self._trial.report(epoch.metrics[self._metric], epoch.epoch)
        if self._prune and self._trial.should_prune():
            from optuna import TrialPruned

            raise TrialPruned
