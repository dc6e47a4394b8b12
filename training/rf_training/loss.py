"""InfoNCE over in-batch and uniform negatives, with log-Q correction.

Shapes: Q targets, C candidates, D width.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class LossTerms:
    """The loss and what is watched beside it (R13)."""

    loss: Tensor
    """Mean InfoNCE loss."""
    alignment: Tensor
    """Mean squared distance of queries and their positives."""
    uniformity: Tensor
    """Log of the mean of exp(-2 d^2) over queries and candidates; lower is more uniform."""


def info_nce(
    x_QD: Tensor, y_CD: Tensor, target_Q: Tensor, hit_QC: Tensor, log_weight_C: Tensor, temperature: float
) -> LossTerms:
    """Contrastive loss of each query against the batch's candidates (Eq. 9, 16, R9).

    A candidate that was drawn m times and is drawn E[m] times on average counts m / E[m] times, so that the sum over the
    sampled negatives estimates the sum over the catalog without bias. The target itself counts once, exactly; other rows
    marked in ``hit_QC`` carry no loss.

    Args:
        x_QD: unit query vectors.
        y_CD: unit candidate vectors.
        target_Q: each query's positive, a row of ``y_CD``.
        hit_QC: bool, candidates that are no negatives of a query; its own target may be marked or not.
        log_weight_C: log(m / E[m]).
        temperature: divides the dot products.
    """
    cosine_QC = x_QD @ y_CD.T
    positive_Q1 = cosine_QC.gather(1, target_Q[:, None])
    negative_QC = (cosine_QC / temperature + log_weight_C).masked_fill(hit_QC, -torch.inf)
    negative_QC = negative_QC.scatter(1, target_Q[:, None], positive_Q1 / temperature)
    loss = (torch.logsumexp(negative_QC, dim=1) - positive_Q1.squeeze(1) / temperature).mean()
    with torch.no_grad():
        alignment = (2 - 2 * positive_Q1).mean()
        uniformity = torch.logsumexp(-2 * (2 - 2 * cosine_QC), dim=(0, 1)) - torch.log(
            torch.tensor(float(cosine_QC.numel()))
        )
    return LossTerms(loss=loss, alignment=alignment, uniformity=uniformity)
