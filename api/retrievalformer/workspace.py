"""A workspace from Python: datasets, trainings, bundles and vectors by name, as the `rf` command has them."""

from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from retrievalformer.bundle import Bundle, load_bundle
from rf_platform.dataset import Dataset
from rf_platform.dataset.run_dataset import open_dataset, open_run_dataset
from rf_platform.registry import Registry, features_now, promote
from rf_platform.settings import Settings
from rf_training.callbacks import Callback
from rf_training.config import Recipe
from rf_training.evaluation import EvaluationCases, Scorer, Split, rank_targets
from rf_training.evaluation.metrics import REPORT_METRICS
from rf_training.model_scorer import ModelScorer
from rf_training.run import completed_run, recipe_for, resume_run, start_run
from rf_training.run_model import load_run_model
from rf_training.trainer import TrainResult


class Workspace:
    """One catalog: its tables, datasets, runs and bundles; what a method makes, `rf` finds, and the other way round.

    Args:
        home: directory; default: ``RF_HOME``, else ``.rf``.
        settings: further settings, by the names of the ``RF_*`` variables, such as ``online_store_url``; they come before these.
    """

    def __init__(self, home: str | Path | None = None, **settings: Any) -> None:
        if home is not None:
            settings["home"] = Path(home)
        self.settings = Settings(**settings)
        """Locations and engines."""

    def dataset(self, name: str | None = None) -> Dataset:
        """Return a dataset version; default: the newest.

        Raises:
            NotFoundError: there is none of that name, or none at all.
        """
        return open_dataset(Registry.of(self.settings), name)

    def recipe(self, name: str = "default", *, changes: Iterable[str] = (), dataset: str | None = None) -> Recipe:
        """Return a recipe with the sizes that it chooses for a dataset version.

        Args:
            name: of the recipe, or the path of a YAML file.
            changes: single settings, as `rf train --set` takes them: ``"train.epochs=5"``.
            dataset: name of the dataset version; default: the newest.

        Raises:
            NotFoundError: there is no such recipe or dataset.
            UsageError: a change names no setting, or not a value of it.
            ConfigError: the values contradict each other.
        """
        return recipe_for(self.settings, name, dataset, changes)

    def train(
        self,
        recipe: Recipe | str = "default",
        *,
        changes: Iterable[str] = (),
        dataset: str | None = None,
        name: str | None = None,
        callbacks: Sequence[Callback] = (),
    ) -> TrainResult:
        """Train a new run in this process, and record it.

        Args:
            recipe: a recipe of :meth:`recipe`, or the name of one.
            changes: single settings of a recipe that is named.
            dataset: name of the dataset version; default: the newest.
            name: of the run; default: the recipe's, with a number.
            callbacks: told of steps and epochs.

        Raises:
            UsageError: the name is taken.
            RunError: training failed; :meth:`resume` goes on from the last checkpoint.
        """
        chosen = recipe if isinstance(recipe, Recipe) else self.recipe(recipe, changes=changes, dataset=dataset)
        return start_run(self.settings, chosen, dataset, name, callbacks=callbacks)

    def resume(self, run: str | None = None, *, callbacks: Sequence[Callback] = ()) -> TrainResult:
        """Go on with an interrupted run, by the recipe it was started with; default: the last one."""
        return resume_run(self.settings, run, callbacks=callbacks)

    def scorer(self, run: str | None = None) -> Scorer:
        """Return the model of a completed run as a scorer of its dataset's items; default: the last run."""
        record = completed_run(self.settings, run)
        dataset = open_run_dataset(Registry.of(self.settings), record)
        return ModelScorer(load_run_model(record, dataset.encoder), dataset)

    def build_bundle(self, run: str | None = None, *, name: str | None = None) -> Path:
        """Build the bundle of a completed run, and return its directory; default: the last run."""
        from rf_serving.bundle.build import build_bundle

        registry = Registry.of(self.settings)
        return build_bundle(registry, self.settings.workspace.bundles, run, name=name).record.path

    def promote(self, bundle: str) -> None:
        """Make a bundle the served one, after the checks of `rf promote`; running servers take it over.

        Raises:
            NotFoundError: there is no such bundle.
            CorruptError: it is damaged.
            UntrustedError: RF_REQUIRE_SIGNATURE is set, and it is not signed so.
            ConfigError: the feature store no longer offers what it reads, or the policy in effect does not fit it.
        """
        from rf_serving.deployment.rehearsal import Rehearsal

        features = partial(features_now, self.settings)
        promote(Registry.of(self.settings), bundle, current_spec=features, rehearse=Rehearsal(self.settings))

    def bundle(self, name: str | None = None) -> Bundle:
        """Open a bundle in this process; default: the promoted one."""
        from rf_serving.deployment.loader import record_to_serve

        record = record_to_serve(Registry.of(self.settings), name)
        return load_bundle(record.path, signed_by=self.settings.require_signature)

    def export_user_vectors(self, path: str | Path, bundle: str | None = None) -> int:
        """Write all known users to a Parquet file, with their join key and ``vector``; returns how many.

        They are made from the features in the online store, as a server would make them now.

        Args:
            path: the file.
            bundle: name of the bundle; default: the promoted one.

        Raises:
            UnavailableError: the online store cannot be read.
            ConfigError: the feature store does not offer what the bundle reads.
        """
        from rf_platform.features.read import read_definitions
        from rf_platform.features.store import open_store
        from rf_serving.batch.run import AT_ONCE
        from rf_serving.batch.users import all_users
        from rf_serving.batch.vectors import write_user_vectors
        from rf_serving.deployment.loader import opened, record_to_serve

        store, record = open_store(self.settings), record_to_serve(Registry.of(self.settings), bundle)
        with opened(self.settings, store, record) as loaded:
            definitions = read_definitions(store, self.settings.feature_service)
            with all_users(self.settings, definitions, AT_ONCE) as users:
                return write_user_vectors(loaded.route, users, Path(path))[0]


def evaluate(
    scorer: Scorer, dataset: Dataset, split: Literal["validation", "test"] = "validation", seed: int = 0
) -> dict[str, float]:
    """Rank the held-out targets of a dataset by any scorer: full catalog, fair ties, seen items excluded.

    Args:
        scorer: anything with ``name`` and ``scores(users, histories)``, see :class:`Scorer`; a model of your own, too.
        dataset: a dataset version.
        split: choose between models on validation; read test once, at the end.
        seed: orders ties.

    Returns:
        Metrics by name: ``recall@5`` to ``recall@50``, ``ndcg@10``, ``ndcg@20``, ``mrr``.

    Raises:
        RunError: the split is empty, or the scorer returns NaN or the wrong shape.
    """
    cases = EvaluationCases.from_sequences(
        dataset.sequences, n_items=dataset.n_items, split=Split[split.upper()], trained=dataset.trained_items
    )
    ranks = rank_targets(scorer, cases, seed=seed)
    return {metric.label.lower(): float(np.mean(metric(ranks.excluded))) for metric in REPORT_METRICS}
