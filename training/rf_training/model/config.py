"""Size and shape of the model."""

from dataclasses import dataclass
from typing import Literal, get_args

from rf_platform.errors import ConfigError

BagPooling = Literal["mean", "sum", "attention"]
Layout = Literal["cls", "prefix", "side"]


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Everything that decides the model's parameters and their arithmetic."""

    dim: int = 64
    """Width of tokens, of item ids' embeddings and of the space both towers share."""

    feature_dim: int | None = None
    """Width of the embeddings of categorical features other than the item id, projected to ``dim`` (d_f of Eq. 13, Table 3); None
    for ``dim``."""

    layers: int = 2
    """Transformer blocks of the user tower (R7)."""

    heads: int = 2
    """Attention heads of a block."""

    ffn: int = 4
    """Hidden width of a feed-forward layer, in multiples of ``dim``."""

    dropout: float = 0.2
    """Dropout after embeddings, attention and feed-forward layers."""

    max_history: int = 50
    """Longest history, in interactions, that the user tower reads."""

    layout: Layout = "prefix"
    """``cls``: [z_1..z_t, SEP, profile, CLS], a CLS of its own for every position read (R7). ``prefix``: the profile first, and
    every position is read where it stands (R8): a quarter of the tokens. ``side``: read like ``prefix``, but the profile is
    concatenated to every token and the pair projected back to ``dim`` (R8)."""

    fusion: str = "attention"
    """Name in :data:`rf_training.model.fusion.FUSIONS`: how features of one entity become one vector. Self-attention over the set
    (R2); the mean; attention pooling with one learned query; cross-attention, where the first feature (an item's id) attends
    over the others; or their concatenation, projected (R3)."""

    context: bool = True
    """Whether an interaction is its item and its context (R6); False leaves the bare sequence of items, for the ablation."""

    fusion_heads: int = 2
    """Attention heads of a fusion block."""

    fusion_ffn: int = 2
    """Hidden width of a fusion block's feed-forward layer, in multiples of ``dim``."""

    item_id: bool = True
    """Whether the item's id is one of its features: identity for items known from training, the unknown token for others."""

    item_id_noise: float = 0.05
    """Share of item ids replaced by the unknown token in training."""

    feature_noise: float = 0.05
    """Share of every other categorical value replaced by the unknown token in training (R11)."""

    item_bias: bool = False
    """Whether items have a learned bias, served as one more dimension of their vectors."""

    bag_pooling: BagPooling = "mean"
    """How the values of a multi-valued feature become one vector (R1)."""

    share_domains: bool = True
    """One embedding table per domain (R4); False gives every feature a table of its own, for the ablation."""

    def __post_init__(self) -> None:
        """Check what can be checked without data."""
        from rf_training.model.fusion.make import (
            FUSIONS,  # torch comes with it, which the help of commands does without
        )

        for name in ("dim", "layers", "heads", "ffn", "max_history", "fusion_heads", "fusion_ffn"):
            if getattr(self, name) < 1:
                raise ConfigError(f"model.{name}={getattr(self, name)} must be at least 1")
        if self.feature_dim is not None and self.feature_dim < 1:
            raise ConfigError(
                f"model.feature_dim={self.feature_dim} must be at least 1, or None for the width of model.dim"
            )
        for name in ("dropout", "item_id_noise", "feature_noise"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"model.{name}={getattr(self, name)} must be in [0, 1)")
        for name in ("heads", "fusion_heads"):
            if self.dim % getattr(self, name):
                raise ConfigError(f"model.dim={self.dim} must be a multiple of model.{name}={getattr(self, name)}")
        choices = {"layout": get_args(Layout), "bag_pooling": get_args(BagPooling), "fusion": tuple(FUSIONS)}
        for name, known in choices.items():
            if getattr(self, name) not in known:
                listed = ", ".join(map(repr, known[:-1])) + f" or {known[-1]!r}"
                raise ConfigError(f"model.{name}={getattr(self, name)!r} must be {listed}")
