"""Size and shape of the model."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from rf_platform.errors import ConfigError
from rf_platform.ranges import Count, Share, check_fields

BagPooling = Literal["mean", "sum", "attention"]
Layout = Literal["cls", "prefix", "side"]


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Everything that decides the model's parameters and their arithmetic."""

    dim: Count = 64
    """Width of tokens, of item ids' embeddings and of the space both towers share."""

    feature_dim: Annotated[Count | None, Field(description="be at least 1, or None for the width of model.dim")] = None
    """Width of the embeddings of categorical features other than the item id, projected to ``dim`` (d_f of Eq. 13, Table 3); None
    for ``dim``."""

    layers: Count = 2
    """Transformer blocks of the user tower (R7)."""

    heads: Count = 2
    """Attention heads of a block."""

    ffn: Count = 4
    """Hidden width of a feed-forward layer, in multiples of ``dim``."""

    dropout: Share = 0.2
    """Dropout after embeddings, attention and feed-forward layers."""

    max_history: Count = 50
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

    fusion_heads: Count = 2
    """Attention heads of a fusion block."""

    fusion_ffn: Count = 2
    """Hidden width of a fusion block's feed-forward layer, in multiples of ``dim``."""

    item_id: bool = True
    """Whether the item's id is one of its features: identity for items known from training, the unknown token for others."""

    item_id_noise: Share = 0.05
    """Share of item ids replaced by the unknown token in training."""

    feature_noise: Share = 0.05
    """Share of every other categorical value replaced by the unknown token in training (R11)."""

    item_bias: bool = False
    """Whether items have a learned bias, served as one more dimension of their vectors."""

    bag_pooling: BagPooling = "mean"
    """Pooling of the values of a multi-valued feature into one vector (R1)."""

    share_domains: bool = True
    """One embedding table per domain (R4); False gives every feature a table of its own, for the ablation."""

    def __post_init__(self) -> None:
        """Check what can be checked without data."""
        from rf_training.model.fusion.make import (
            FUSIONS,  # torch comes with it, which the help of commands does without
        )

        check_fields(self, "model.")
        for name in ("heads", "fusion_heads"):
            if self.dim % getattr(self, name):
                raise ConfigError(f"model.dim={self.dim} must be a multiple of model.{name}={getattr(self, name)}")
        if self.fusion not in FUSIONS:
            *most, last = map(repr, FUSIONS)
            raise ConfigError(f"model.fusion={self.fusion!r} must be {', '.join(most)} or {last}")
