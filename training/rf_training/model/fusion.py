"""Fusion of a set of features into one vector.

Shapes: R rows, M features, D width, H heads.
"""

from abc import ABC, abstractmethod
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rf_training.model.dropout import Dropout


class Fusion(nn.Module, ABC):
    """Maps the features that are present to one vector; a missing feature changes nothing (R2)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.empty_D = nn.Parameter(torch.zeros(dim))  # stands for an entity none of whose features is known

    def forward(self, tokens_RMD: Tensor, present_RM: Tensor) -> Tensor:
        """Fuse ``tokens_RMD`` where ``present_RM`` (bool) says so; returns [R, D]."""
        any_R1 = present_RM.any(dim=1, keepdim=True)
        fused_RD = self.fuse(tokens_RMD, present_RM | ~any_R1)
        return torch.where(any_R1, fused_RD, self.empty_D)

    @abstractmethod
    def fuse(self, tokens_RMD: Tensor, present_RM: Tensor) -> Tensor:
        """Fuse rows that have at least one feature each."""


class MeanFusion(Fusion):
    """The mean of the features that are present (R3)."""

    def fuse(self, tokens_RMD: Tensor, present_RM: Tensor) -> Tensor:
        """Return the masked mean, [R, D]."""
        return masked_mean(tokens_RMD, present_RM)


class AttentionFusion(Fusion):
    """Self-attention over the set of features, feed-forward, masked mean-pool (Eq. 2-4, R2); permutation-invariant.

    Both residual branches start at zero, so that training starts from the mean of the normalised features.
    """

    def __init__(self, dim: int, heads: int, ffn: int, dropout: float) -> None:
        super().__init__(dim)
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)
        self.attention_norm = nn.LayerNorm(dim)
        last = nn.Linear(ffn * dim, dim)
        self.ffn = nn.Sequential(nn.Linear(dim, ffn * dim), nn.GELU(), last)
        self.ffn_norm = nn.LayerNorm(dim)
        self.dropout = Dropout(dropout)
        for branch in (self.out, last):
            nn.init.zeros_(branch.weight)
            nn.init.zeros_(branch.bias)

    def fuse(self, tokens_RMD: Tensor, present_RM: Tensor) -> Tensor:
        """Return the fused vectors, [R, D]."""
        R, M, D = tokens_RMD.shape
        q, k, v = self.qkv(tokens_RMD).view(R, M, 3, self.heads, D // self.heads).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=present_RM[:, None, None, :])
        mixed_RMD = self.out(mixed.transpose(1, 2).reshape(R, M, D))
        z_RMD = self.attention_norm(tokens_RMD + self.dropout(mixed_RMD))
        u_RMD = self.ffn_norm(z_RMD + self.dropout(self.ffn(z_RMD)))
        return masked_mean(u_RMD, present_RM)


def masked_mean(tokens_RMD: Tensor, present_RM: Tensor) -> Tensor:
    """Return the mean over the features that are present, [R, D]."""
    weight_RM1 = present_RM.unsqueeze(-1).to(tokens_RMD.dtype)
    return (tokens_RMD * weight_RM1).sum(1) / weight_RM1.sum(1)


def make_fusion(kind: Literal["attention", "mean"], dim: int, heads: int, ffn: int, dropout: float) -> Fusion:
    """Return the fusion named in a recipe."""
    return AttentionFusion(dim, heads, ffn, dropout) if kind == "attention" else MeanFusion(dim)
