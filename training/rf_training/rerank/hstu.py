"""Blocks of pointwise attention over a history, as in HSTU (Zhai et al., 2024, "Actions speak louder than words").

Shapes: B users, S tokens, D width, H heads, E = D / H.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rf_training.model.dropout import Dropout
from rf_training.rerank.history import from_heads, to_heads
from rf_training.rerank.layers import small
from rf_training.rerank.recency import BUCKETS, buckets

UNSEEN = -1e4
"""SiLU and its gradient are exactly zero there."""


class HstuBlock(nn.Module):
    """Causal attention whose weights are SiLU(q k + b(distance)) over the number of tokens seen, normalised and gated.

    Padding stands behind everything and is seen by nothing but itself.
    """

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(dim)
        self.project = nn.Linear(dim, 4 * dim)
        self.distance_RH = nn.Parameter(torch.zeros(BUCKETS, heads))
        self.out_norm = nn.LayerNorm(dim)
        self.out = small(dim, dim)
        self.dropout = Dropout(dropout)

    def forward(self, x_BSD: Tensor) -> Tensor:
        """Return the tokens [B, S, D] after attending to those before them and to themselves."""
        S = x_BSD.shape[1]
        gate_BSD, *qkv = F.silu(self.project(self.norm(x_BSD))).chunk(4, dim=-1)
        q, k, v = (to_heads(each, self.heads) for each in qkv)
        # With the keys in reverse, the distance grows along rows and columns alike: the addend is a view of one vector a head.
        k, v = k.flip(2), v.flip(2)
        weight_BHSS = F.silu((q * q.shape[-1] ** -0.5) @ k.transpose(2, 3) + self._distance(S).unfold(1, S, 1))
        seen_S1 = torch.arange(1, S + 1, device=x_BSD.device)[:, None]
        mixed_BSD = from_heads((weight_BHSS @ v) / seen_S1)
        out: Tensor = x_BSD + self.dropout(self.out(self.out_norm(mixed_BSD) * gate_BSD))
        return out

    def _distance(self, S: int) -> Tensor:
        """Return what is added for the distances 1 - S to S - 1 [H, 2 * S - 1]; those ahead are not seen."""
        behind_HS = self.distance_RH[buckets(torch.arange(S, device=self.distance_RH.device))].T
        return F.pad(behind_HS, (S - 1, 0), value=UNSEEN)
