"""Fitted library baselines, kept in the workspace: an interrupted comparison goes on where it stopped."""

import hashlib
import json
import os
from pathlib import Path

import torch

from rf_platform.cli.console import err_console
from rf_training.baselines.library import quiet
from rf_training.baselines.table import BASELINES, Baseline
from rf_training.baselines.training_data import TrainingData
from rf_training.evaluation.scorer import Scorer


class FittedBaselines:
    """A directory with one file for each (dataset fingerprint, baseline, settings, library version).

    The files are pickles that this class wrote: they are as trustworthy as the workspace that holds them.
    """

    def __init__(self, directory: Path, *, fingerprint: str) -> None:
        """``directory``: the workspace's ``baselines``, made when needed; ``fingerprint``: that of the dataset version."""
        self.directory = directory
        self.fingerprint = fingerprint

    def path(self, name: str) -> Path:
        """Where the fitted baseline is, or will be."""
        identity = json.dumps({"dataset": self.fingerprint, **BASELINES[name].identity}, sort_keys=True)
        return self.directory / f"{name}-{hashlib.sha256(identity.encode()).hexdigest()[:16]}.pt"

    def get(self, name: str, data: TrainingData) -> Scorer:
        """The fitted baseline: the simple ones anew, those of a library only where they are not there yet.

        Raises:
            ConfigError: If the ``bench`` extra is not installed.
            RunError: If there is nothing to train on.
        """
        baseline: Baseline = BASELINES[name]
        if baseline.package is None:
            return baseline.fit(data)
        path = self.path(name)
        if path.exists():
            err_console().print(f"{name}: fitted before, {path}", highlight=False, soft_wrap=True)
            with quiet():
                kept: Scorer = torch.load(path, weights_only=False)
            return kept
        scorer = baseline.fit(data)
        self.directory.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(f".{os.getpid()}.tmp")
        torch.save(scorer, temporary)
        os.replace(temporary, path)
        return scorer
