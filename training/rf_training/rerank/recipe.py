"""A complete configuration of a re-ranker and of its training."""

from dataclasses import dataclass, field

from rf_training.rerank.config import RerankConfig
from rf_training.rerank.settings import RerankTraining


@dataclass(frozen=True, kw_only=True)
class RerankRecipe:
    """What `rf rerank train` trains, and how; `rf_training.recipes.override` changes single settings of it."""

    rerank: RerankConfig = field(default_factory=lambda: RerankConfig(dropout=0.3))
    """The re-ranker; on examples of towers that were trained on the same events it takes more dropout than in general."""

    train: RerankTraining = field(default_factory=RerankTraining)
    """Its training."""
