"""Models and baselines in one report."""

from collections.abc import Sequence

from rf_platform.cli.console import track
from rf_training.baselines.fitted import FittedBaselines
from rf_training.baselines.item_knn import ItemKNN
from rf_training.baselines.popularity import Popularity
from rf_training.baselines.training_data import TrainingData
from rf_training.evaluation import EvaluationReport, LeaveOneOutCases, Scorer, Sequences, Split, evaluate
from rf_training.evaluation.sequences import check_sequences


def fit_baselines(sequences: Sequences, *, n_items: int) -> list[Scorer]:
    """All baselines, fitted on the training split.

    Raises:
        DataError: If the sequences break the leave-one-out order.
    """
    check_sequences(sequences, n_items=n_items)
    with track("Fitting baselines", total=2) as tracker:
        popularity = Popularity.fit(sequences, n_items=n_items)
        tracker.advance()
        item_knn = ItemKNN.fit(sequences, n_items=n_items)
        tracker.advance()
    return [popularity, item_knn]


def compare_with_baselines(
    models: Sequence[Scorer], sequences: Sequences, *, n_items: int, split: Split, seed: int
) -> EvaluationReport:
    """Evaluate models beside the baselines, with differences from popularity.

    Args:
        models: Scorers to compare; may be empty, for the baselines alone.
        sequences: Events of the dataset version, such as ``Dataset.sequences``.
        n_items: Size of the catalog.
        split: Validation or test.
        seed: Seed of ties and resampling.

    Raises:
        ValueError: If a model has the name of another one or of a baseline.
        DataError: If the sequences break the leave-one-out order.
        RunError: If the split is empty, or a model returns NaN or the wrong shape.
    """
    LeaveOneOutCases.from_sequences(sequences, n_items=n_items, split=split)  # an empty split fails before the fitting
    scorers = [*fit_baselines(sequences, n_items=n_items), *models]
    return evaluate(sequences, scorers, n_items=n_items, split=split, seed=seed, reference=Popularity.name)


def compare(
    models: Sequence[Scorer],
    names: Sequence[str],
    data: TrainingData,
    fitted: FittedBaselines,
    *,
    split: Split,
    seed: int,
) -> EvaluationReport:
    """Evaluate models beside any of the baselines: same cases, same ties, paired differences.

    Args:
        models: Scorers to compare; differences are taken against the first one, without any against the first baseline.
        names: Baselines of :data:`~rf_training.baselines.table.BASELINES`, in the order of the report.
        data: What the baselines are fitted on.
        fitted: Where those of a library are kept.
        split: Validation or test.
        seed: Seed of ties and resampling.

    Raises:
        ConfigError: If a baseline's library is not installed.
        DataError: If the sequences break the leave-one-out order.
        RunError: If the split is empty, or a scorer returns NaN or the wrong shape.
    """
    LeaveOneOutCases.from_sequences(data.sequences, n_items=data.n_items, split=split)  # before the fitting, again
    baselines = []
    with track("Fitting baselines", total=len(names)) as tracker:
        for name in names:
            baselines.append(fitted.get(name, data))
            tracker.advance(note=name)
    reference = models[0].name if models else names[0]
    scorers = [*baselines, *models]
    return evaluate(data.sequences, scorers, n_items=data.n_items, split=split, seed=seed, reference=reference)
