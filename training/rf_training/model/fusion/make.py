"""Table of fusions by name."""

from collections.abc import Callable
from typing import NamedTuple

from rf_platform.parts import Parts
from rf_training.model.fusion.attention import AttentionFusion
from rf_training.model.fusion.attention_pool import AttentionPoolFusion
from rf_training.model.fusion.concat import ConcatFusion
from rf_training.model.fusion.cross_attention import CrossAttentionFusion
from rf_training.model.fusion.fusion import Fusion
from rf_training.model.fusion.mean import MeanFusion


class FusionSize(NamedTuple):
    """Sizes that a fusion is made with."""

    dim: int
    """Width of a feature's vector and of the fused one."""
    heads: int
    """Attention heads."""
    ffn: int
    """Hidden width of a feed-forward layer, in multiples of ``dim``."""
    dropout: float
    features: int
    """Number of them."""


FUSIONS: Parts[Callable[[FusionSize], Fusion]] = Parts(
    "fusions",
    {
        "mean": lambda size: MeanFusion(size.dim),
        "attention": lambda size: AttentionFusion(size.dim, size.heads, size.ffn, size.dropout),
        "attention-pool": lambda size: AttentionPoolFusion(size.dim),
        "cross-attention": lambda size: CrossAttentionFusion(size.dim, size.heads),
        "concat": lambda size: ConcatFusion(size.dim, size.features),
    },
    lambda found: found if callable(found) else None,
)
"""All fusions by name: what recipes and the ablation choose from. Each has a form in ``model/served/fusions.py``; one of another
package is served by its own module."""


def make_fusion(kind: str, dim: int, heads: int, ffn: int, dropout: float, count: int) -> Fusion:
    """Return the fusion named in a recipe, for ``count`` features."""
    return FUSIONS[kind](FusionSize(dim, heads, ffn, dropout, count))
