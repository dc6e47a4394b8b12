"""Target attention: every candidate attends the history itself; the bound of a re-ranker's quality and cost.

Shapes: N items, B users, T longest history, S = 1 + T tokens, K candidates, D width of the towers, H heads, E = D / H.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rf_training.model.dropout import Dropout
from rf_training.rerank.config import RerankConfig
from rf_training.rerank.history import (
    BUCKETS,
    HistoryInput,
    Tokens,
    buckets,
    direction,
    from_heads,
    identity,
    silent,
    small,
    to_heads,
)
from rf_training.rerank.ranker import CorrectingRanker, Histories


class TargetUser(NamedTuple):
    """The encoded history, ready to be attended to."""

    key_BHSE: Tensor
    value_BHSE: Tensor
    there_B11S: Tensor | None
    """bool, False for padding; None where there is none."""
    u_B1D: Tensor


class TargetAttention(CorrectingRanker):
    """The full ranker: a history encoded by HSTU-like blocks, attention of each candidate over all of it, a deep scorer.

    Costs O(T^2) per user and O(K * T) for the candidates: what LIME is measured against, in quality and in time.
    """

    kind = "target-attention"

    def __init__(self, config: RerankConfig, dim: int) -> None:
        super().__init__(config, dim)
        self.item_width = dim
        self.item_mlp = nn.Sequential(nn.Linear(dim, 2 * dim), nn.GELU(), Dropout(config.dropout), small(2 * dim, dim))
        self.history = HistoryInput(dim, config.dropout)
        self.blocks = nn.ModuleList(HstuBlock(dim, config.heads, config.dropout) for _ in range(config.blocks))
        self.norm = nn.LayerNorm(dim)
        self.key, self.value = identity(dim, bias=False), identity(dim)
        self.pair = nn.Linear(4 * dim + 1, 4 * dim)
        self.user = nn.Linear(dim, 4 * dim, bias=False)
        self.scorer = nn.Sequential(
            nn.GELU(),
            Dropout(config.dropout),
            nn.Linear(4 * dim, 2 * dim),
            nn.GELU(),
            nn.Linear(2 * dim, dim),
            nn.GELU(),
        )
        self.score = silent(dim)

    def item_state(self, items_ND: Tensor) -> Tensor:
        """Return the candidates' queries [N, D]."""
        t_ND = direction(items_ND)
        query_ND: Tensor = t_ND + self.item_mlp(t_ND)
        return query_ND

    def user_state(self, histories: Histories) -> TargetUser:
        """Encode the history."""
        x_BSD, there_BS = self.history(histories)
        for block in self.blocks:
            x_BSD = block(x_BSD)
        x_BSD, heads = self.norm(x_BSD), self.config.heads
        u_B1D = direction(histories.user_BD)[:, None]
        mask = Tokens(x_BSD, there_BS).mask
        return TargetUser(to_heads(self.key(x_BSD), heads), to_heads(self.value(x_BSD), heads), mask, u_B1D)

    def forward(self, user: TargetUser, item_BKW: Tensor, dot_BK: Tensor) -> Tensor:
        """Return the scores [B, K]: the retriever's, times a learned factor, and the scorer's correction."""
        t_BKD, u_B1D = item_BKW, user.u_B1D
        mixed = F.scaled_dot_product_attention(
            to_heads(t_BKD, self.config.heads), user.key_BHSE, user.value_BHSE, attn_mask=user.there_B11S
        )
        found_BKD = from_heads(mixed)
        pair = torch.cat([found_BKD, t_BKD, found_BKD * t_BKD, u_B1D * t_BKD, dot_BK[..., None]], dim=-1)
        correction_BK1: Tensor = self.score(self.scorer(self.pair(pair) + self.user(u_B1D)))
        return self.corrected(correction_BK1, dot_BK)


class TruncatedAttention(TargetAttention):
    """The full ranker on the last interactions only, as many as LIME has links: what cutting the history off costs."""

    kind = "truncated"

    def user_state(self, histories: Histories) -> TargetUser:
        """Encode the last interactions."""
        return super().user_state(latest(histories, self.config.links))


def latest(histories: Histories, count: int) -> Histories:
    """Return histories of the last ``count`` interactions at most."""
    z_BTD, length_B = histories.tokens_BTD, histories.length_B
    if z_BTD.shape[1] <= count:
        return histories
    first_B1 = (length_B - count).clamp(min=0)[:, None]
    place_BC = first_B1 + torch.arange(count, device=z_BTD.device)
    z_BCD = z_BTD.gather(1, place_BC[:, :, None].expand(-1, -1, z_BTD.shape[2]))
    return Histories(tokens_BTD=z_BCD, length_B=length_B.clamp(max=count), user_BD=histories.user_BD)


UNSEEN = -1e4
"""SiLU and its gradient are exactly zero there."""


class HstuBlock(nn.Module):
    """Causal attention with weights SiLU(q k + b(distance)) over the number of tokens seen, normalised and gated.

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
