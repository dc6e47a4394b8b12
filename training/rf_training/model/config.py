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

    tower: str = "transformer"
    """Name in :data:`rf_training.model.blocks.TOWERS`, or ``package.module:name`` of your own block: how the user tower mixes
    interactions. ``transformer``: softmax attention (R7); ``hstu``: pointwise attention with relative positions and, where
    interactions have times, the time between them; ``filter``: learned frequency filters, causal, not with ``layout=cls``;
    ``attentive-filter``: softmax attention and filters side by side."""

    layers: Count = 2
    """Blocks of the user tower (R7)."""

    heads: Count = 2
    """Attention heads of a block; a filter has none."""

    ffn: Count = 4
    """Hidden width of a feed-forward layer, in multiples of ``dim``; the blocks of ``hstu`` have none."""

    dropout: Share = 0.2
    """Dropout after embeddings, attention and feed-forward layers."""

    max_history: Count = 50
    """Longest history, in interactions, that the user tower reads."""

    layout: Layout = "prefix"
    """``cls``: [z_1..z_t, SEP, profile, CLS], a CLS of its own for every position read (R7). ``prefix``: the profile first, and
    every position is read where it stands (R8): a quarter of the tokens. ``side``: read like ``prefix``, but the profile is
    concatenated to every token and the pair projected back to ``dim`` (R8)."""

    fusion: str = "attention"
    """Name in :data:`rf_training.model.fusion.FUSIONS`, or ``package.module:name`` of your own: how features of one entity become
    one vector. Self-attention over the set (R2); the mean; attention pooling with one learned query; cross-attention, where the
    first feature (an item's id) attends over the others; or their concatenation, projected (R3)."""

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

    semantic_ids: Annotated[
        int | None, Field(ge=0, description="be 0 or more, or None for all levels of the dataset")
    ] = None
    """Levels of the items' semantic ids that are features, where the dataset has any: prefixes of one code, of two, and so on;
    None for all, 0 for none."""

    goals: bool = False
    """Whether the user tower is conditioned on goals, the types of events: what would be bought next, what viewed next."""

    item_bias: bool = False
    """Whether items have a learned bias, served as one more dimension of their vectors."""

    bag_pooling: BagPooling = "mean"
    """Pooling of the values of a multi-valued feature into one vector (R1)."""

    share_domains: bool = True
    """One embedding table per domain (R4); False gives every feature a table of its own, for the ablation."""

    def __post_init__(self) -> None:
        """Check what can be checked without data."""
        # torch comes with them, which the help of commands does without
        from rf_training.model.blocks.make import TOWERS
        from rf_training.model.fusion.make import FUSIONS

        check_fields(self, "model.")
        for name in ("heads", "fusion_heads"):
            if self.dim % getattr(self, name):
                raise ConfigError(f"model.dim={self.dim} must be a multiple of model.{name}={getattr(self, name)}")
        FUSIONS.find(self.fusion, "model.fusion")
        layouts = TOWERS.find(self.tower, "model.tower").layouts
        if self.layout not in layouts:
            raise ConfigError(
                f"model.tower={self.tower!r} has no form for model.layout={self.layout!r}: choose "
                f"{' or '.join(map(repr, layouts))}, or another tower"
            )
