"""LIME: candidates and users meet in a few links (arXiv 2510.18239; L1-L4 of docs/reranking.md).

Shapes: N items, B users, T longest history, S = 1 + T tokens, K candidates, D width of the towers, L links, H heads, C = D / H,
E numbers of an item for the scorer, G hidden width of the scorer, M of the mixer, F = E + G, P = L * H link weights of an
item, W = P + E.
"""

from abc import abstractmethod
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rf_training.model.dropout import Dropout
from rf_training.rerank.config import RerankConfig
from rf_training.rerank.history import HistoryInput, Tokens, direction, identity, silent, small
from rf_training.rerank.ranker import CorrectingRanker, Histories


class LimeUser(NamedTuple):
    """The user state, carried as far into the scorer as it goes without a candidate."""

    table_BWF: Tensor
    """Contribution of each number of an item's state to the scorer's inputs."""
    row_B1F: Tensor
    """Contribution of the user to them."""


class Lime(CorrectingRanker):
    """Global links, personalised by attention over the history; an item knows its weights of the global ones.

    A candidate's attention output, the weighted sum of the personalised links, is never computed: the scorer's first layer is
    linear in it and goes into the user side, so that a candidate costs one product of its row with a matrix [W, F] and a
    small layer.
    """

    served = True

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

    def item_state(self, items_ND: Tensor) -> Tensor:
        """Return link weights and the numbers for the scorer [N, W]; the links are the global ones, for every user."""
        H, C = self.config.heads, self.dim // self.config.heads
        t_ND = direction(items_ND)
        t_ND = t_ND + self.item_mlp(t_ND)
        q_NHC = self.item_query(t_ND).view(len(t_ND), H, C)
        logit_NLH = torch.einsum("nhc,lhc->nlh", q_NHC, self.links_LD.view(-1, H, C)) * C**-0.5
        soft = self.config.weights == "softmax"
        weight_NLH = logit_NLH.softmax(1) if soft else F.silu(logit_NLH) / self.config.links
        return torch.cat([weight_NLH.flatten(1), self.item_extra(t_ND)], dim=1)

    def user_state(self, histories: Histories) -> LimeUser:
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
        """Return the link weights in rows of :meth:`item_state` [K, L, H], for explanations."""
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


class LimeMha(Lime):
    """Every link attends the whole history once: O(L * T)."""

    kind = "lime-mha"

    def __init__(self, config: RerankConfig, dim: int) -> None:
        super().__init__(config, dim)
        self.attention = LinkAttention(dim, config.heads)
        self.dropout = Dropout(config.dropout)

    def personal_links(self, links_BLD: Tensor, tokens: Tokens) -> Tensor:
        """Return the links and what they attend to [B, L, D]."""
        found_BLD: Tensor = links_BLD + self.dropout(self.attention.read(links_BLD, tokens.x_BSD, tokens.there_BS))
        return found_BLD

    def reading(self, links_BLD: Tensor, tokens: Tokens) -> Tensor:
        """Return how far each link attends to each token [B, H, L, S]."""
        return self.attention.weights(links_BLD, tokens.x_BSD, tokens.there_BS)


class LimeXor(Lime):
    """Blocks of attention between links and history: O(L * T) each, where attention of the history to itself costs O(T^2)."""

    kind = "lime-xor"

    def __init__(self, config: RerankConfig, dim: int) -> None:
        super().__init__(config, dim)
        self.blocks = nn.ModuleList(XorBlock(dim, config.heads, config.dropout) for _ in range(config.blocks))

    def personal_links(self, links_BLD: Tensor, tokens: Tokens) -> Tensor:
        """Return the links after all blocks [B, L, D]; the history after the last one is not needed."""
        last, links_BLD, x_BSD = self._before_last(links_BLD, tokens)
        return last.read(links_BLD, x_BSD, tokens.there_BS)

    def reading(self, links_BLD: Tensor, tokens: Tokens) -> Tensor:
        """Return how far each link attends to each token in the last block [B, H, L, S]."""
        last, links_BLD, x_BSD = self._before_last(links_BLD, tokens)
        return last.attention.weights(last.norm(links_BLD), last.norm(x_BSD), tokens.there_BS)

    def _before_last(self, links_BLD: Tensor, tokens: Tokens) -> tuple["XorBlock", Tensor, Tensor]:
        x_BSD = tokens.x_BSD
        for block in self.blocks[:-1]:
            links_BLD, x_BSD = block(links_BLD, x_BSD, tokens.there_BS)
        return cast(XorBlock, self.blocks[-1]), links_BLD, x_BSD


class XorBlock(nn.Module):
    """Pre-norm attention over [links; history] under the mask M(i, j) = is_link(i) XOR is_link(j).

    Both kinds of tokens share the weights, as they would in one attention under that mask; it is computed as the two cross
    attentions that the mask leaves. Only the links have a feed-forward layer: on the history it would cost more than the
    rest.
    """

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.attention = LinkAttention(dim, heads)
        self.ffn_norm = nn.LayerNorm(dim)
        self.ffn = nn.Sequential(nn.Linear(dim, 2 * dim), nn.GELU(), Dropout(dropout), small(2 * dim, dim))
        self.dropout = Dropout(dropout)

    def forward(self, links_BLD: Tensor, x_BSD: Tensor, there_BS: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return links [B, L, D] and history [B, S, D], each after attending to the other as it was before.

        Args:
            links_BLD: the links.
            x_BSD: the history.
            there_BS: bool, False for padding; None where there is none.
        """
        normed_BLD, normed_BSD = self.norm(links_BLD), self.norm(x_BSD)
        return (
            self._read(links_BLD, normed_BLD, normed_BSD, there_BS),
            self.attention.write(normed_BSD, x_BSD, normed_BLD),
        )

    def read(self, links_BLD: Tensor, x_BSD: Tensor, there_BS: Tensor | None) -> Tensor:
        """Return the links alone [B, L, D]."""
        return self._read(links_BLD, self.norm(links_BLD), self.norm(x_BSD), there_BS)

    def _read(self, links_BLD: Tensor, normed_BLD: Tensor, normed_BSD: Tensor, there_BS: Tensor | None) -> Tensor:
        links_BLD = links_BLD + self.dropout(self.attention.read(normed_BLD, normed_BSD, there_BS))
        out: Tensor = links_BLD + self.dropout(self.ffn(self.ffn_norm(links_BLD)))
        return out


class LinkAttention(nn.Module):
    """Multi-head softmax attention with all projections on the side of the links.

    The product of a projected query and a projected key is that of the token itself with a query carried through both matrices.
    There are few links, so a token of the history costs 2 * P * D multiplications in either direction, in place of 2 * D * D for
    its projections and 2 * L * D for the attention. All projections start at identity: a link reads what lies near it.
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key = identity(dim, bias=False), identity(dim, bias=False)
        self.value, self.out = identity(dim), identity(dim)

    def read(self, links_BLD: Tensor, x_BSD: Tensor, there_BS: Tensor | None) -> Tensor:
        """Return what each link attends to in the history [B, L, D].

        Args:
            links_BLD: the links.
            x_BSD: the history.
            there_BS: bool, False for padding, True for at least one token of each user; None where there is no padding.
        """
        (B, L, D), H = links_BLD.shape, self.heads
        weight_BPS = self._weights(links_BLD, x_BSD, there_BS)
        mean_BHLD = (weight_BPS @ x_BSD).view(B, H, L, D)
        mixed_BHLE = mean_BHLD @ self.value.weight.view(H, D // H, D).transpose(1, 2)
        found_BLD: Tensor = self.out(mixed_BHLE.transpose(1, 2).reshape(B, L, D) + self.value.bias)
        return found_BLD

    def weights(self, links_BLD: Tensor, x_BSD: Tensor, there_BS: Tensor | None) -> Tensor:
        """Return how far each link attends to each token in :meth:`read` [B, H, L, S]."""
        B, L, _ = links_BLD.shape
        return self._weights(links_BLD, x_BSD, there_BS).view(B, self.heads, L, -1)

    def _weights(self, links_BLD: Tensor, x_BSD: Tensor, there_BS: Tensor | None) -> Tensor:
        B, L, D = links_BLD.shape
        H, E = self.heads, D // self.heads
        q_BHLE = self.query(links_BLD).view(B, L, H, E).transpose(1, 2) * E**-0.5
        asked_BPD = (q_BHLE @ self.key.weight.view(H, E, D)).flatten(1, 2)
        logit_BPS: Tensor = asked_BPD @ x_BSD.transpose(1, 2)
        if there_BS is not None:
            logit_BPS = logit_BPS.masked_fill(~there_BS[:, None], -torch.inf)
        return logit_BPS.softmax(-1)

    def write(self, x_BSD: Tensor, onto_BSD: Tensor, links_BLD: Tensor) -> Tensor:
        """Return the history with what its tokens attend to among the links added [B, S, D].

        Args:
            x_BSD: the history, as it asks.
            onto_BSD: the history, as it is added to.
            links_BLD: the links.
        """
        B, L, D = links_BLD.shape
        S, H, E = x_BSD.shape[1], self.heads, D // self.heads
        k_BHLE = self.key(links_BLD).view(B, L, H, E).transpose(1, 2) * E**-0.5
        v_BHLE = self.value(links_BLD).view(B, L, H, E).transpose(1, 2)
        asked_BPD = (k_BHLE @ self.query.weight.view(H, E, D)).flatten(1, 2)
        given_BPD = (v_BHLE @ self.out.weight.view(D, H, E).permute(1, 2, 0)).flatten(1, 2)
        given_BPD = given_BPD + self.out.bias / H  # the weights of every head sum to one
        logit_BSP = x_BSD @ asked_BPD.transpose(1, 2)
        weight_BSP = logit_BSP.view(B, S, H, L).softmax(-1).view(B, S, H * L)
        return torch.baddbmm(onto_BSD, weight_BSP, given_BPD)
