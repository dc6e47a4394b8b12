"""Interface of a re-ranker: numbers per item beforehand, a user state per request, and little per pair.

Shapes: N items, B users, T longest history, K candidates, D width of the towers, W width of an item's state.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from rf_training.rerank.config import RerankConfig


@dataclass(frozen=True, kw_only=True)
class Histories:
    """User histories in the vectors of the retriever; nothing here is trained by a re-ranker."""

    tokens_BTD: Tensor
    """Interaction tokens, oldest first, then padding."""
    length_B: Tensor
    """int64, interactions of each user, 0 to T."""
    user_BD: Tensor
    """Output of the user tower; only its direction counts."""


class Ranker(nn.Module, ABC):
    """Scores candidates for users. The three steps are apart since they happen at different times when it is served.

    :meth:`item_state` is computed when a bundle is built or an item changes, :meth:`user_state` while the index is searched,
    and :meth:`forward` for the candidates found.

    Every re-ranker starts with the order of the retriever: what it adds to the retriever's score starts at zero.
    """

    kind: ClassVar[str]
    """Name in recipes, bundles and tables."""
    served: ClassVar[bool] = False
    """Whether bundles take it as their second stage: its cost hardly grows with candidates and history."""
    item_width: int
    """W: numbers kept of an item."""

    def __init__(self, config: RerankConfig, dim: int) -> None:
        super().__init__()
        self.config, self.dim = config, dim

    @abstractmethod
    def item_state(self, items_ND: Tensor) -> Tensor:
        """Return what is kept of items [N, W], from the item tower's output alone: the user has no part in it.

        Only the direction of the output counts: the vectors that are indexed, without the dimension of a bias, do as well.
        """

    @abstractmethod
    def user_state(self, histories: Histories) -> Any:
        """Return what is computed once a request, however many candidates there are: a tensor or a named tuple of tensors."""

    @abstractmethod
    def forward(self, user: Any, item_BKW: Tensor, dot_BK: Tensor) -> Tensor:
        """Return the scores [B, K].

        Args:
            user: of :meth:`user_state`.
            item_BKW: the candidates' rows of :meth:`item_state`.
            dot_BK: the retriever's scores: dot products, with what it adds for the item alone.
        """


DOT = "dot"
"""Kind of the retriever's own order, which every other one is compared with."""


class DotProduct(Ranker):
    """Scores a candidate as the retriever did; has no parameters, keeps nothing of items and needs nothing of users."""

    kind = DOT

    def __init__(self, config: RerankConfig, dim: int) -> None:
        super().__init__(config, dim)
        self.item_width = 0

    def item_state(self, items_ND: Tensor) -> Tensor:
        """Return rows of no width [N, 0]."""
        return items_ND[:, :0]

    def user_state(self, histories: Histories) -> None:
        """Return nothing."""

    def forward(self, user: None, item_BKW: Tensor, dot_BK: Tensor) -> Tensor:
        """Return the retriever's scores [B, K]."""
        return dot_BK


class CorrectingRanker(Ranker):
    """Scores are the retriever's, times a learned factor, and a correction that starts at zero."""

    def __init__(self, config: RerankConfig, dim: int) -> None:
        super().__init__(config, dim)
        self.log_scale = nn.Parameter(torch.tensor(config.scale).log())
        self.residual_weight: Tensor
        # Set after training, on users it did not see; 0 is the order of the retriever.
        self.register_buffer("residual_weight", torch.ones(()))

    def corrected(self, correction_BK1: Tensor, dot_BK: Tensor) -> Tensor:
        """Return the scores [B, K]."""
        return torch.addcmul(correction_BK1.squeeze(2) * self.residual_weight, dot_BK, self.log_scale.exp())
