"""Fitted library baselines, kept in the workspace: an interrupted comparison goes on where it stopped."""

import hashlib
import json
import os
from pathlib import Path

import torch

from rf_platform.cli.console import err_console
from rf_platform.errors import CorruptError
from rf_platform.staging import put_file
from rf_training.baselines.fitted_state import FittedState, Keepable
from rf_training.baselines.library import quiet
from rf_training.baselines.table import BASELINES, Baseline
from rf_training.baselines.training_data import TrainingData
from rf_training.evaluation.scorer import Scorer

_FORMAT = 2


class FittedBaselines:
    """A directory with one file for each (dataset fingerprint, baseline, settings, library version).

    A file holds weights and plain values (:class:`FittedState`), never objects: whoever may write to the workspace cannot have
    code run by it. Fits that earlier versions kept as objects are not read; they are done again.
    """

    def __init__(self, directory: Path, *, fingerprint: str) -> None:
        """``directory``: the workspace's ``baselines``, made when needed; ``fingerprint``: that of the dataset version."""
        self.directory = directory
        self.fingerprint = fingerprint

    def path(self, name: str) -> Path:
        """Where the fitted baseline is, or will be."""
        identity = json.dumps(
            {"format": _FORMAT, "dataset": self.fingerprint, **BASELINES[name].identity}, sort_keys=True
        )
        return self.directory / f"{name}-{hashlib.sha256(identity.encode()).hexdigest()[:16]}.pt"

    def get(self, name: str, data: TrainingData) -> Scorer:
        """The fitted baseline: the simple ones anew, those of a library only where they are not there yet.

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
            err_console().print(f"{name}: fitted before, {path}", highlight=False, soft_wrap=True)
            with quiet():
                return baseline.restore(data, _read(path))
        scorer = baseline.fit(data)
        assert isinstance(scorer, Keepable)
        self.directory.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(f".{os.getpid()}.tmp")
        torch.save(scorer.state(), temporary)
        put_file(temporary, path)
        return scorer


def _read(path: Path) -> FittedState:
    try:
        state: FittedState = torch.load(path, weights_only=True)
    except Exception as error:  # torch raises many kinds
        raise CorruptError(
            f"the fitted baseline {path} cannot be read ({type(error).__name__}); remove the file, and it is fitted again"
        ) from error
    return state
