"""LIME: candidates and users meet in a few links (arXiv 2510.18239; L1-L3 of docs/reranking.md).

Shapes: N items, B users, T longest history, S = 1 + T tokens, K candidates, D width of the towers, L links, H heads, C = D / H,
E numbers of an item for the scorer, G hidden width of the scorer, M of the mixer, F = E + G, P = L * H link weights of an
item, W = P + E.
"""

from abc import abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rf_training.model.dropout import Dropout
from rf_training.rerank.config import RerankConfig
from rf_training.rerank.correction import CorrectingRanker
from rf_training.rerank.history import HistoryInput, Tokens, direction
from rf_training.rerank.layers import identity, silent, small
from rf_training.rerank.ranker import Histories


class LimeUser(NamedTuple):
    """The user side, as far into the scorer as it goes without a candidate."""

    table_BWF: Tensor
    """What each number kept of an item adds to the scorer's inputs."""
    row_B1F: Tensor
    """What the user adds to them."""


class Lime(CorrectingRanker):
    """Global links, personalised by attention over the history; an item knows its weights of the global ones.

    A candidate's attention output, the weighted sum of the personalised links, is never computed: the scorer's first layer is
    linear in it and goes into the user side, so that a candidate costs one product of its row with a matrix [W, F] and a
    small layer.
    """

    def __init__(self, config: RerankConfig, dim: int) -> None:
        super().__init__(config, dim)
        L, H, E, G = config.links, config.heads, config.width, config.hidden
        self.item_width = L * H + E
        self.links_LD = nn.Parameter(torch.randn(L, dim))
        # Beforehand, per item: costs nothing online.
        self.item_mlp = nn.Sequential(nn.Linear(dim, 2 * dim), nn.GELU(), Dropout(config.dropout), small(2 * dim, dim))
        self.item_query = identity(dim)
        self.item_extra = nn.Linear(dim, E)
        # Once per user.
        self.history = HistoryInput(dim, config.dropout)
        self.mix_links = nn.Linear(dim, 2 * dim)
        self.mix_user = nn.Linear(dim, 2 * dim, bias=False)
        self.mix_out = small(2 * dim, dim)
        self.personal_norm = nn.LayerNorm(dim)
        self.fold_links = nn.Linear(dim, H * (E + G))
        self.fold_user = nn.Linear(dim, E + G)
        # Per candidate.
        self.extra_EF = nn.Parameter(torch.randn(E, E + G) * E**-0.5)
        self.dot_G = nn.Parameter(torch.zeros(G))
        self.product_EG = nn.Parameter(torch.randn(E, G) * E**-0.5)
        self.scorer_dropout = Dropout(config.dropout)
        self.score = silent(G)

    def item_side(self, items_ND: Tensor) -> Tensor:
        """Return link weights and the numbers for the scorer [N, W]; the links are the global ones, whoever the user is."""
        H, C = self.config.heads, self.dim // self.config.heads
        t_ND = direction(items_ND)
        t_ND = t_ND + self.item_mlp(t_ND)
        q_NHC = self.item_query(t_ND).view(len(t_ND), H, C)
        logit_NLH = torch.einsum("nhc,lhc->nlh", q_NHC, self.links_LD.view(-1, H, C)) * C**-0.5
        soft = self.config.weights == "softmax"
        weight_NLH = logit_NLH.softmax(1) if soft else F.silu(logit_NLH) / self.config.links
        return torch.cat([weight_NLH.flatten(1), self.item_extra(t_ND)], dim=1)

    def user_side(self, histories: Histories) -> LimeUser:
        """Return the personalised links and the user's vector, carried through the scorer's first layer."""
        B, H = len(histories.length_B), self.config.heads
        u_BD = direction(histories.user_BD)
        personal_BLD = self.personal_norm(self.personal_links(self._mixed(u_BD), self.history(histories)))
        table_BPF = self.fold_links(personal_BLD).unflatten(-1, (H, -1)).flatten(1, 2)
        table_BWF = torch.cat([table_BPF, self.extra_EF.expand(B, -1, -1)], dim=1)
        return LimeUser(table_BWF, self.fold_user(u_BD)[:, None])

    @abstractmethod
    def personal_links(self, links_BLD: Tensor, tokens: Tokens) -> Tensor:
        """Return what the links find in the history [B, L, D], from the links mixed with the user's vector (L^C to L^P)."""

    @abstractmethod
    def reading(self, links_BLD: Tensor, tokens: Tokens) -> Tensor:
        """Return how far each link attends to each token in the last layer [B, H, L, S]."""

    def link_attention(self, histories: Histories) -> Tensor:
        """Return how far each personalised link attends to each interaction [B, H, L, T], 0 for padding, for explanations.

        The weights of a link sum to less than 1: the rest is on the token that stands for no interaction.
        """
        reading_BHLS = self.reading(self._mixed(direction(histories.user_BD)), self.history(histories))
        return reading_BHLS[..., 1:]

    def link_weights(self, item_KW: Tensor) -> Tensor:
        """Return the link weights in rows of :meth:`item_side` [K, L, H], for explanations."""
        return item_KW[:, : -self.config.width].view(-1, self.config.links, self.config.heads)

    def forward(self, user: LimeUser, item_BKW: Tensor, dot_BK: Tensor) -> Tensor:
        """Return the scores [B, K]: the retriever's, times a learned factor, and the scorer's correction."""
        E, B = self.config.width, len(item_BKW)
        in_BKF = torch.baddbmm(user.row_B1F, item_BKW, user.table_BWF)
        product_BKE = in_BKF[..., :E] * item_BKW[..., -E:]
        hidden_BKG = torch.baddbmm(in_BKF[..., E:], product_BKE, self.product_EG.expand(B, -1, -1))
        hidden_BKG = torch.addcmul(hidden_BKG, dot_BK[..., None], self.dot_G)
        correction_BK1: Tensor = self.score(self.scorer_dropout(F.gelu(hidden_BKG)))
        return self.corrected(correction_BK1, dot_BK)

    def _mixed(self, u_BD: Tensor) -> Tensor:
        """Return the links mixed with the user's vector (L^C) [B, L, D]."""
        mixed_BLM = F.silu(self.mix_links(self.links_LD) + self.mix_user(u_BD)[:, None])
        links_BLD: Tensor = self.links_LD + self.mix_out(mixed_BLM)
        return links_BLD
