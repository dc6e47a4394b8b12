"""LIME-MHA: links personalised by one layer of multi-head attention (L1).

Shapes: B users, S tokens of a history, L links, D width of the towers, H heads.
"""

from torch import Tensor

from rf_training.model.dropout import Dropout
from rf_training.rerank.config import RerankConfig
from rf_training.rerank.history import Tokens
from rf_training.rerank.lime import Lime
from rf_training.rerank.link_attention import LinkAttention


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
