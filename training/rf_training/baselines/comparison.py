"""Models and baselines in one report."""

from collections.abc import Mapping, Sequence

from rf_platform.cli.console import track
from rf_training.baselines.fitted import FittedBaselines
from rf_training.baselines.item_knn import ItemKNN
from rf_training.baselines.popularity import Popularity
from rf_training.baselines.table import BASELINES
from rf_training.baselines.training_data import TrainingData
from rf_training.evaluation import EvaluationCases, EvaluationReport, Scorer, Served, Split, evaluate

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
    )
