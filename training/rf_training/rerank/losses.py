"""What a re-ranker is trained to do with a positive and its negatives.

Shapes: B examples, K candidates, the positive first.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class ListwiseSoftmax(nn.Module):
    """Cross-entropy of the positive among its candidates (ListNet's top-one loss, Cao et al., 2007, ICML).

    The negatives that were drawn stand for all, as in the sampled softmax: otherwise the scores would learn how likely each was
    drawn.
    """

    def forward(self, score_BK: Tensor, log_weight_BK: Tensor) -> Tensor:
        """Return the mean loss.

        Args:
            score_BK: the re-ranker's scores; column 0 is the positive.
            log_weight_BK: log of how many candidates each stands for, 0 for the positive; -inf where a candidate is none.
        """
        loss: Tensor = ((score_BK + log_weight_BK).logsumexp(dim=1) - score_BK[:, 0]).mean()
        return loss


class Clicks(nn.Module):
    """Binary cross-entropy of every candidate by itself; the negatives of an example weigh as much as its positive.

    A learned offset stands for the rate of positives. It is no part of the re-ranker: it changes no order.
    """

    def __init__(self) -> None:
        super().__init__()
        self.offset = nn.Parameter(torch.zeros(()))

    def forward(self, score_BK: Tensor, log_weight_BK: Tensor) -> Tensor:
        """Return the mean loss; arguments as for :class:`ListwiseSoftmax`."""
        logit_BK = score_BK + self.offset
        weight_BN = log_weight_BK[:, 1:].softmax(dim=1)
        loss: Tensor = (F.softplus(-logit_BK[:, 0]) + (F.softplus(logit_BK[:, 1:]) * weight_BN).sum(1)).mean()
        return loss
