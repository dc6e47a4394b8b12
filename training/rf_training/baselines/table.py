"""All baselines by name, in the order of the reports."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from rf_platform.errors import ConfigError, UsageError
from rf_platform.parts import Parts
from rf_training.baselines.als import ALS
from rf_training.baselines.content_knn import ContentKNN
from rf_training.baselines.gru4rec import GRU4Rec, GRU4RecSettings
from rf_training.baselines.item_knn import ItemKNN
from rf_training.baselines.library import library_version
from rf_training.baselines.popularity import Popularity
from rf_training.baselines.recency import Recency
from rf_training.baselines.rectools_models import BERT4Rec, SASRec, TransformerSettings
from rf_training.baselines.training_data import FittedState, TrainingData
from rf_training.evaluation.scorer import Scorer

SASREC = TransformerSettings(dropout=0.2, sparse_dropout=0.5)
BERT4REC = TransformerSettings(dropout=0.2, sparse_dropout=0.2, max_epochs=200, patience=10)
GRU4REC = GRU4RecSettings(batch_size=512, epochs=10, dropout=0.0)


@dataclass(frozen=True)
class Baseline:
    """Entry of a baseline: its fit, package and settings."""

    fit: Callable[[TrainingData], Scorer]
    """Fits with the settings of the table."""
    restore: Callable[[TrainingData, FittedState], Scorer] | None = None
    """Builds a kept fit again, from the data that it was fitted on; None for those that fit in seconds."""
    package: str | None = None
    """Distribution of the ``bench`` extra that does the work; None for those that fit in seconds without it."""
    settings: dict[str, Any] = field(default_factory=dict)
    """Settings that a fit by a library depends on, beside the data and the library's version."""

    @property
    def identity(self) -> dict[str, Any]:
        """Settings and version, as plain values: equal ones give an equal fit on equal data."""
        return {
            **self.settings,
            "package": self.package,
            "version": library_version(self.package) if self.package else None,
        }


def _made(found: Any) -> Baseline | None:
    if isinstance(found, Baseline):
        return found
    fit = getattr(found, "fit", found)
    return Baseline(fit) if callable(fit) else None


_OWN: dict[str, Baseline] = {
    Popularity.name: Baseline(lambda data: Popularity.fit(data.sequences, n_items=data.n_items)),
    Recency.name: Baseline(Recency.fit),
    ItemKNN.name: Baseline(lambda data: ItemKNN.fit(data.sequences, n_items=data.n_items)),
    ContentKNN.name: Baseline(ContentKNN.fit),
    ALS.name: Baseline(ALS.fit, ALS.restore, "implicit", ALS.SETTINGS),
    GRU4Rec.name: Baseline(lambda data: GRU4Rec.fit(data, GRU4REC), GRU4Rec.restore, "cornac", asdict(GRU4REC)),
    SASRec.name: Baseline(
        lambda data: SASRec.fit(data, SASREC),
        lambda data, state: SASRec.restore(data, SASREC, state),
        "rectools",
        asdict(SASREC),
    ),
    BERT4Rec.name: Baseline(
        lambda data: BERT4Rec.fit(data, BERT4REC),
        lambda data, state: BERT4Rec.restore(data, BERT4REC, state),
        "rectools",
        asdict(BERT4REC),
    ),
}
BASELINES: Parts[Baseline] = Parts("baselines", _OWN, _made)
"""All baselines by name. One of another package is a :class:`Baseline`, a class with ``fit(TrainingData) -> Scorer``, or such a
function."""
SIMPLE = tuple(name for name, baseline in BASELINES.items() if baseline.package is None)
"""Baselines that need no extra and fit in seconds."""


def baseline_names(text: str) -> Sequence[str]:
    """Names from a comma-separated list, from ``simple`` or from ``all``.

    Raises:
        UsageError: If a name is unknown, repeated or missing.
    """
    if text in ("simple", "all"):
        return SIMPLE if text == "simple" else tuple(BASELINES)
    names = [name.strip() for name in text.split(",")]
    for name in names:
        try:
            BASELINES.find(name, "--baselines")
        except ConfigError as error:
            raise UsageError(f"{error}; simple and all stand for several") from error
        if names.count(name) > 1:
            raise UsageError(
                f"--baselines: '{name}' is listed twice; choose from {', '.join(BASELINES)}, or simple, or all"
            )
    return names
