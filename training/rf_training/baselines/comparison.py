"""Models and baselines in one report; fitted baselines are kept, so that an interrupted comparison goes on."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from rf_platform.cli.console import say, track
from rf_platform.failures import reading
from rf_platform.files import new_file
from rf_training.baselines.item_knn import ItemKNN
from rf_training.baselines.library import quiet
from rf_training.baselines.popularity import Popularity
from rf_training.baselines.table import BASELINES, Baseline
from rf_training.baselines.training_data import Keepable, TrainingData
from rf_training.evaluation import EvaluationCases, EvaluationReport, Scorer, Served, Split, evaluate
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


BESIDE_EVERY_RUN = (Popularity.name, ItemKNN.name)
"""Baselines that stand beside a run's model wherever it is evaluated."""


def compare(
    models: Sequence[Scorer],
    baselines: Sequence[str],
    data: TrainingData,
    *,
    split: Split,
    seed: int,
    reference: str | None = None,
    exact_of: Mapping[str, str] | None = None,
    served: Served | None = None,
    fitted: FittedBaselines | None = None,
) -> EvaluationReport:
    """Evaluate models beside any of the baselines: same cases, same ties, paired differences.

    Args:
        models: Scorers to compare; may be empty, for the baselines alone.
        baselines: Names in :data:`~rf_training.baselines.table.BASELINES`, in the order of the report.
        data: What the baselines are fitted on.
        split: Validation or test.
        seed: Seed of ties and resampling.
        reference: Scorer that differences are taken against; default: the first model, without any the first baseline.
        exact_of: Which models are approximations of which others, see :func:`~rf_training.evaluation.evaluate`.
        served: What a server would return, see :func:`~rf_training.evaluation.evaluate`.
        fitted: Where the baselines of a library are kept; default: nowhere, they are fitted anew.

    Raises:
        ValueError: If a model has the name of another one or of a baseline.
        ConfigError: If a baseline's library is not installed.
        DataError: If the events of a user are not in the order of the splits.
        RunError: If the split is empty, or a scorer returns NaN or the wrong shape.
    """
    # A split that is empty or broken fails before the fitting, which may take hours.
    EvaluationCases.from_sequences(data.sequences, n_items=data.n_items, split=split)
    scorers: list[Scorer] = []
    with track("Fitting baselines", total=len(baselines)) as tracker:
        for name in baselines:
            scorers.append(fitted.get(name, data) if fitted is not None else BASELINES[name].fit(data))
            tracker.advance(note=name)
    scorers.extend(models)
    return evaluate(
        data.sequences,
        scorers,
        n_items=data.n_items,
        split=split,
        seed=seed,
        reference=reference or (models[0].name if models else baselines[0]),
        exact_of=exact_of,
        served=served,
        trained=data.trained,
        types=data.types,
        weights=data.weights,
    )
