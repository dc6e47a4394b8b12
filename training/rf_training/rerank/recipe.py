"""Recipe of a re-ranker: its configuration and that of its training."""

from dataclasses import dataclass, field
from typing import Literal

from rf_platform.errors import ConfigError
from rf_platform.ranges import Count, Positive, Share, Weight, Whole, check_fields
from rf_training.rerank.config import RerankConfig
from rf_training.rerank.kinds import check_kind


@dataclass(frozen=True, kw_only=True)
class RerankTraining:
    """Examples, losses and optimiser of a re-ranker. The towers are frozen: nothing here changes them."""

    epochs: Count = 3
    """Most passes over the examples; the best of them by validation is kept."""

    patience: Count = 1
    """Passes without a better validation NDCG@10 after which training ends."""

    batch_size: Count = 256
    """Examples per step."""

    places: Count = 2
    """Training events of every user that are learned to be ranked: the latest ones, which are most like those held out."""

    loss: Literal["softmax", "bce"] = "softmax"
    """``softmax``: the positive against its negatives (listwise). ``bce``: every pair by itself, as clicks are predicted."""

    hard: Whole = 48
    """Negatives among the retriever's 1,000 best at the very place, the better ones likelier."""

    uniform: Whole = 16
    """Negatives drawn uniformly from the items of the training split."""

    leave_out: bool = True
    """Take what a training event has added to its own item's vector out of it, so far that the retriever finds training events as
    often as validation targets."""

    tower_dropout: bool = False
    """Encode training places with the dropout that the user tower had in its own training."""

    unknown: Share = 0.0
    """Share of the interactions before a training place that lose their item id: features alone describe the item."""

    views: Count = 1
    """Encodings and searches of the training places, each with other noise and negatives; the passes take turns."""

    learning_rate: Positive = 5e-4
    """Peak of the schedule: a warm-up of a tenth of the first pass, and a cosine to 0 at the last."""

    weight_decay: Weight = 0.2
    """AdamW's decay of matrices."""

    clip_norm: Positive = 1.0
    """Largest norm of the gradient."""

    validation_cases: Count = 4_000
    """Most validation targets that are ranked after every pass; of more, so many are drawn by the seed."""

    seed: Whole = 0
    """Same seed, same run and same machine: same weights."""

    def __post_init__(self) -> None:
        """Check what can be checked without data."""
        check_fields(self, "train.")
        if self.hard + self.uniform < 1:
            raise ConfigError(
                "train.hard=0 and train.uniform=0 leave nothing to tell a positive from; raise one of them"
            )


@dataclass(frozen=True, kw_only=True)
class RerankRecipe:
    """Complete configuration of `rf rerank train`; `rf_training.recipes.override` changes single settings of it."""

    rerank: RerankConfig = field(default_factory=lambda: RerankConfig(dropout=0.3))
    """The re-ranker; on examples of towers that were trained on the same events it takes more dropout than in general."""

    train: RerankTraining = field(default_factory=RerankTraining)
    """Its training."""

    def __post_init__(self) -> None:
        """Check that the kind exists."""
        check_kind(self.rerank.kind)
