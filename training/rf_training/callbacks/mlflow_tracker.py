"""Runs in MLflow, with the tags by which Feast finds the features of a model."""

import json
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from typing import Any

from rf_platform.errors import ConfigError
from rf_platform.files import replace_text
from rf_training.callbacks.callback import Callback, EpochReport, RunReport, StepReport
from rf_training.loss import READ_EVERY

NOTE = "mlflow.json"
"""File in a run's directory that has the id of its run in MLflow: a run that goes on goes on there."""
_LONGEST_TAG = 5000


class MlflowTracker(Callback):
    """A run in MLflow (package ``mlflow`` or ``mlflow-skinny``): settings, curves, the result, and tags that Feast reads.

    Feast (``mlflow: {enabled: true}`` in its ``feature_store.yaml``) tags the active run when features are retrieved. A training
    reads a dataset version instead, so the same tags (``feast.feature_service``, ``feast.feature_views``,
    ``feast.feature_refs``) are written from the dataset's specification: what Feast does with them works here, too.

    Args:
        experiment: name of the experiment; default: ``MLFLOW_EXPERIMENT_NAME``, else ``retrievalformer``.
        tracking_uri: place of the tracking server; default: ``MLFLOW_TRACKING_URI``, else MLflow's own.

    Raises:
        ConfigError: MLflow is not installed.
    """

    def __init__(self, experiment: str | None = None, tracking_uri: str | None = None) -> None:
        try:
            import mlflow
        except ModuleNotFoundError as error:
            raise ConfigError(
                f"the callback mlflow needs the Python package '{error.name}', which is not installed: run `pip install "
                f"mlflow-skinny`"
            ) from error
        self._mlflow: Any = mlflow
        self._experiment = experiment
        self._client = mlflow.MlflowClient(tracking_uri=tracking_uri)

    def on_start(self, run: RunReport) -> None:
        """Make a run, or go on with the one of an earlier sitting."""
        note = run.directory / NOTE
        self._id = json.loads(note.read_text())["run_id"] if note.exists() else ""
        if self._id:
            self._client.update_run(self._id, status="RUNNING")
            return
        spec = run.dataset.spec
        views = sorted({f.view for f in spec.fields})
        tags = {
            "mlflow.runName": run.name,
            "retrievalformer.dataset_fingerprint": run.dataset.fingerprint,
            "retrievalformer.spec_hash": spec.hash,
            "feast.retrieval_type": "dataset",
            "feast.feature_service": spec.service,
            "feast.feature_views": _cut(",".join(views)),
            "feast.feature_refs": _cut(",".join(f"{f.view}:{f.field}" for f in spec.fields)),
            "feast.feature_count": str(len(spec.fields)),
        }
        self._id = self._client.create_run(self._experiment_id(), run_name=run.name, tags=tags).info.run_id
        settings = {
            f"{section}.{name}": str(value)
            for section, each in asdict(run.recipe).items()
            if isinstance(each, dict)
            for name, value in each.items()
        }
        parameters = {"recipe": run.recipe.name, **settings}
        entities = self._mlflow.entities
        self._client.log_batch(self._id, params=[entities.Param(name, value) for name, value in parameters.items()])
        replace_text(note, json.dumps({"run_id": self._id}) + "\n")

    def on_step(self, step: StepReport) -> None:
        """Add a point to each curve, now and then."""
        if step.step % READ_EVERY == 0:
            self._add("train", step.values, step.step)

    def on_epoch(self, epoch: EpochReport) -> None:
        """Add the metrics."""
        self._add("validation", epoch.metrics, epoch.step)

    def on_end(self, result: Any, error: BaseException | None) -> None:
        """Write the result, and end the run."""
        if error is not None:
            with suppress(Exception):  # the error that ends the training is what has to be told
                self._client.set_terminated(self._id, "KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")
            return
        self._client.set_tag(self._id, "retrievalformer.best_epoch", str(result.best_epoch))
        self._add("best", result.validation, result.steps)
        self._client.set_terminated(self._id)

    def _experiment_id(self) -> str:
        name = self._experiment or os.environ.get("MLFLOW_EXPERIMENT_NAME", "retrievalformer")
        found = self._client.get_experiment_by_name(name)
        return str(found.experiment_id if found is not None else self._client.create_experiment(name))

    def _add(self, prefix: str, values: Mapping[str, float], step: int) -> None:
        now, metric = int(time.time() * 1000), self._mlflow.entities.Metric
        # MLflow takes no @ in names.
        points = [metric(f"{prefix}/{_name(name)}", value, now, step) for name, value in values.items()]
        self._client.log_batch(self._id, metrics=points)


def _name(metric: str) -> str:
    return metric.replace("@", "_at_")


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST_TAG else f"{text[: _LONGEST_TAG - 3]}..."
