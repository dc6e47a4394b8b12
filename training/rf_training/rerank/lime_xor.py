"""LIME-XOR: links and history refine each other, and neither attends to itself (L4).

Shapes: B users, S tokens of a history, L links, D width of the towers, H heads.
"""

from typing import cast

from torch import Tensor, nn

from rf_training.model.dropout import Dropout
from rf_training.rerank.config import RerankConfig
from rf_training.rerank.history import Tokens
from rf_training.rerank.layers import small
from rf_training.rerank.lime import Lime
from rf_training.rerank.link_attention import LinkAttention


class LimeXor(Lime):
    """Blocks of attention between links and history: O(L * T) each, where attention of the history to itself costs O(T^2)."""

    kind = "lime-xor"

    def __init__(self, config: RerankConfig, dim: int) -> None:
        super().__init__(config, dim)
        self.blocks = nn.ModuleList(XorBlock(dim, config.heads, config.dropout) for _ in range(config.blocks))

    def personal_links(self, links_BLD: Tensor, tokens: Tokens) -> Tensor:
        """Return the links after all blocks [B, L, D]; nobody reads the history after the last one."""
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
