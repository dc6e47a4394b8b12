"""Re-rankers that add something to the retriever's score.

Shapes: B users, K candidates.
"""

import torch
from torch import Tensor, nn

from rf_training.rerank.config import RerankConfig
from rf_training.rerank.ranker import Ranker


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
