"""Sanity check of a model: the simple baselines that rank better."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from rf_platform.cli.console import track
from rf_platform.dataset import Dataset
from rf_training.baselines.popularity import Popularity
from rf_training.baselines.table import BASELINES, SIMPLE
from rf_training.baselines.training_data import TrainingData
from rf_training.evaluation.cases import EvaluationCases
from rf_training.evaluation.metrics import NDCG
from rf_training.evaluation.ranking import rank_targets
from rf_training.evaluation.scorer import Scorer
from rf_training.evaluation.sequences import Split

METRIC = NDCG(20)
"""Metric that the model is chosen by."""
CASES = 25_000
"""Most validation targets that are looked at; of more, so many are drawn."""
EVENTS = 5_000_000
"""Most training events that all of :data:`SIMPLE` are fitted to; beyond that, popularity alone, which needs counts only."""


@dataclass(frozen=True, kw_only=True)
class Beaten:
    """A simple baseline that ranks the validation targets better than the model, seen items excluded."""

    baseline: str
    """Its name."""
    metric: str
    """Metric that is compared, such as ``ndcg@20``."""
    value: float
    """The baseline's mean over the validation targets that were looked at."""
    model: float
    """The model's."""

    def __str__(self) -> str:
        """One sentence for people."""
        return (
            f"{self.baseline} beats the model on the validation split: {self.metric} {self.value:.4f} against "
            f"{self.model:.4f} (seen items excluded)"
        )


def baselines_ahead_of(model: Scorer, dataset: Dataset, *, seed: int = 0) -> list[Beaten]:
    """Compare a model with the baselines that fit in seconds: popularity, recency, item-KNN and content-KNN.

    Args:
        model: The trained model.
        dataset: The dataset version that it was trained on; of the targets only the validation split's are looked at.
        seed: Seed of the order of ties.

    Returns:
        The baselines with a higher mean than the model, best first; empty where there is none.

    Raises:
        RunError: If the validation split is empty, or the model returns NaN.
    """
    counts = dataset.training_counts
    if counts.of_user.sum() > EVENTS:
        simple: dict[str, Callable[[], Scorer]] = {Popularity.name: lambda: Popularity(counts.of_item)}
    else:
        data = TrainingData.from_dataset(dataset)
        simple = {name: partial(BASELINES[name].fit, data) for name in SIMPLE}
    cases = EvaluationCases.from_sequences(dataset.sequences, n_items=dataset.n_items, split=Split.VALIDATION)
    cases = cases.sampled(CASES, seed)

    def value(scorer: Scorer) -> float:
        return float(METRIC(rank_targets(scorer, cases, seed=seed).excluded).mean())

    with track("Comparing with simple baselines", total=1 + len(simple)) as tracker:
        model_value = value(model)
        tracker.advance()
        values = {}
        for name, fit in simple.items():
            values[name] = value(fit())
            tracker.advance()
    return [
        Beaten(baseline=name, metric=METRIC.label.lower(), value=values[name], model=model_value)
        for name in sorted(values, key=lambda name: -values[name])
        if values[name] > model_value
    ]
