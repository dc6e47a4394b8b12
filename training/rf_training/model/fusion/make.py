"""Table of fusions by name."""

from rf_training.model.config import FusionKind
from rf_training.model.fusion.attention import AttentionFusion
from rf_training.model.fusion.attention_pool import AttentionPoolFusion
from rf_training.model.fusion.concat import ConcatFusion
from rf_training.model.fusion.cross_attention import CrossAttentionFusion
from rf_training.model.fusion.fusion import Fusion
from rf_training.model.fusion.mean import MeanFusion


def make_fusion(kind: FusionKind, dim: int, heads: int, ffn: int, dropout: float, count: int) -> Fusion:
    """Return the fusion named in a recipe, for ``count`` features."""
    match kind:
        case "attention":
            return AttentionFusion(dim, heads, ffn, dropout)
        case "mean":
            return MeanFusion(dim)
        case "attention-pool":
            return AttentionPoolFusion(dim)
        case "cross-attention":
            return CrossAttentionFusion(dim, heads)
        case "concat":
            return ConcatFusion(dim, count)
