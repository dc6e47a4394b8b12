"""The order of the retriever, as a re-ranker.

Shapes: N items, B users, K candidates, D width of the towers.
"""

from torch import Tensor

from rf_training.rerank.config import RerankConfig
from rf_training.rerank.ranker import Histories, Ranker


class DotProduct(Ranker):
    """Scores a candidate as the retriever did; has no parameters, keeps nothing of items and needs nothing of users."""

    kind = "dot"

    def __init__(self, config: RerankConfig, dim: int) -> None:
        super().__init__(config, dim)
        self.item_width = 0

    def item_side(self, items_ND: Tensor) -> Tensor:
        """Return rows of no width [N, 0]."""
        return items_ND[:, :0]

    def user_side(self, histories: Histories) -> None:
        """Return nothing."""

    def forward(self, user: None, item_BKW: Tensor, dot_BK: Tensor) -> Tensor:
        """Return the retriever's scores [B, K]."""
        return dot_BK
