"""Fitted library baselines, kept in the workspace: an interrupted comparison goes on where it stopped."""

import hashlib
import json
from pathlib import Path

from rf_platform.cli.console import say
from rf_platform.failures import reading
from rf_platform.files import new_file
from rf_training.baselines.fitted_state import Keepable
from rf_training.baselines.library import quiet
from rf_training.baselines.table import BASELINES, Baseline
from rf_training.baselines.training_data import TrainingData
from rf_training.evaluation.scorer import Scorer
from rf_training.tensors import load_tensors, save_tensors

_FORMAT = 2
_REMEDY = "remove the file, and it is fitted again"


class FittedBaselines:
    """A directory with one file for each (dataset fingerprint, baseline, settings, library version).

    A file holds weights and plain values (:class:`FittedState`), never objects: a writer to the workspace cannot have
    code run by it. Fits that earlier versions kept as objects are not read; they are done again.
    """

    def __init__(self, directory: Path, *, fingerprint: str) -> None:
        """``directory``: the workspace's ``baselines``, made when needed; ``fingerprint``: that of the dataset version."""
        self.directory = directory
        self.fingerprint = fingerprint

    def path(self, name: str) -> Path:
        """Return the path of the fitted baseline; it need not exist yet."""
        identity = json.dumps(
            {"format": _FORMAT, "dataset": self.fingerprint, **BASELINES[name].identity}, sort_keys=True
        )
        return self.directory / f"{name}-{hashlib.sha256(identity.encode()).hexdigest()[:16]}.pt"

    def get(self, name: str, data: TrainingData) -> Scorer:
        """Return the fitted baseline: simple ones are fitted anew, those of a library only once.

        Raises:
            ConfigError: If the ``bench`` extra is not installed.
            RunError: If there is nothing to train on.
            CorruptError: If the file that was kept cannot be read.
        """
        baseline: Baseline = BASELINES[name]
        if baseline.restore is None:
            return baseline.fit(data)
        path = self.path(name)
        if path.exists():
            say(f"{name}: fitted before, {path}", err=True)
            with quiet(), reading(path, _REMEDY):
                return baseline.restore(data, load_tensors(path, _REMEDY))
        scorer = baseline.fit(data)
        assert isinstance(scorer, Keepable)
        with new_file(path) as file:
            save_tensors(file, scorer.state())
        return scorer
