"""Models and baselines in one report."""

from collections.abc import Sequence

from rf_platform.cli.console import track
from rf_training.baselines.item_knn import ItemKNN
from rf_training.baselines.popularity import Popularity
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
