"""Fusion of the features of one entity into one vector (R2, R3)."""

from rf_training.model.fusion.attention import AttentionFusion
from rf_training.model.fusion.attention_pool import AttentionPoolFusion
from rf_training.model.fusion.concat import ConcatFusion
from rf_training.model.fusion.cross_attention import CrossAttentionFusion
from rf_training.model.fusion.fusion import Fusion
from rf_training.model.fusion.make import FUSIONS, FusionSize, make_fusion
from rf_training.model.fusion.mean import MeanFusion

__all__ = [
    "FUSIONS",
    "AttentionFusion",
    "AttentionPoolFusion",
    "ConcatFusion",
    "CrossAttentionFusion",
    "Fusion",
    "FusionSize",
    "MeanFusion",
    "make_fusion",
]
