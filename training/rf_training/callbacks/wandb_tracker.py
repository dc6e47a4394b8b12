"""Runs in Weights & Biases."""

import json
import os
from dataclasses import asdict
from typing import Any

from rf_platform.errors import ConfigError
from rf_platform.files import replace_text
from rf_training.callbacks.callback import Callback, EpochReport, RunReport, StepReport
from rf_training.loss import READ_EVERY

NOTE = "wandb.json"
"""File in a run's directory that has the id of its run there: a run that goes on goes on there."""


class WandbTracker(Callback):
    """A run in Weights & Biases (package ``wandb``): settings, curves and the result.

    ``WANDB_MODE=offline`` keeps everything in the run's directory, under ``wandb/``, for ``wandb sync``.

    Args:
        project: name of the project; default: ``WANDB_PROJECT``, else ``retrievalformer``.
        options: further arguments of ``wandb.init``, such as ``entity`` and ``tags``.

    Raises:
        ConfigError: wandb is not installed.
    """

    def __init__(self, project: str | None = None, **options: Any) -> None:
        try:
            import wandb
        except ModuleNotFoundError as error:
            raise ConfigError(
                f"the callback wandb needs the Python package '{error.name}', which is not installed: run `pip install wandb`"
            ) from error
        self._wandb: Any = wandb
        self._project, self._options = project, options

    def on_start(self, run: RunReport) -> None:
        """Make a run, or go on with the one of an earlier sitting."""
        note = run.directory / NOTE
        known = json.loads(note.read_text())["id"] if note.exists() else None
        self._run = self._wandb.init(
            project=self._project or os.environ.get("WANDB_PROJECT", "retrievalformer"),
            name=run.name,
            dir=str(run.directory),
            id=known,
            resume="allow" if known else None,
            config={
                **asdict(run.recipe),
                "dataset_fingerprint": run.dataset.fingerprint,
                "feature_service": run.dataset.spec.service,
            },
            **self._options,
        )
        replace_text(note, json.dumps({"id": self._run.id}) + "\n")
        # A run that goes on tells of steps after its last checkpoint once more: own axes take what comes, in any order.
        self._run.define_metric("step")
        for prefix in ("train", "validation"):
            self._run.define_metric(f"{prefix}/*", step_metric="step")

    def on_step(self, step: StepReport) -> None:
        """Add a point to each curve, now and then."""
        if step.step % READ_EVERY == 0:
            self._run.log({"step": step.step, **{f"train/{name}": value for name, value in step.values.items()}})

    def on_epoch(self, epoch: EpochReport) -> None:
        """Add the metrics."""
        self._run.log({"step": epoch.step, **{f"validation/{name}": value for name, value in epoch.metrics.items()}})

    def on_end(self, result: Any, error: BaseException | None) -> None:
        """Write the result, and end the run."""
        if error is None:
            best = {f"best/{name}": value for name, value in result.validation.items()}
            self._run.summary.update({"best_epoch": result.best_epoch, **best})
        self._run.finish(exit_code=0 if error is None else 1)
