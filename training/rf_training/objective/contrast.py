"""Losses by name: from the queries of a step and their candidates to the number that is minimised.

Shapes: Q targets, C candidates, D width.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from rf_platform.parts import Parts
from rf_training.loss import full_softmax, hits, info_nce


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """Queries of a step beside the candidates that they are compared with."""

    queries_QD: Tensor
    """Unit vectors of the queries, one for each target."""
    candidates_CD: Tensor
    """Unit vectors of the candidates."""
    bias_C: Tensor | None
    """Learned bias of each candidate, added to its cosine; None in a model without."""
    target_Q: Tensor
    """int64, the candidate that is each query's target."""
    weight_Q: Tensor | None
    """Weight of each target by the type of its event, see ``event_type: weights`` of a mapping; None where all count alike."""
    item_C: Tensor | None
    """int64, item of each candidate, numbered from 0; None where the candidates are all items of the training split, once."""
    log_weight_C: Tensor | None
    """Log of how often a candidate was drawn over how often it is drawn on average (log-Q correction); None where none is
    drawn."""
    window_Q: Tensor | None
    """int64, history window of each query, where ``train.mask_own_positives`` asks that other targets of it are no negatives."""
    windows: int
    """Number of history windows of the step."""
    temperature: float
    """``train.temperature``."""
    label_smoothing: float
    """``train.label_smoothing``."""
    hard_negatives: float
    """``train.hard_negatives``."""
    product: torch.dtype
    """Number format of large products, see ``train.precision``."""

    @property
    def scores_QC(self) -> Tensor:  # noqa: N802
        """Scores of all pairs: cosine and bias, not divided by the temperature; made at each call."""
        scores_QC = self.queries_QD @ self.candidates_CD.T
        return scores_QC if self.bias_C is None else scores_QC + self.bias_C

    @property
    def excluded_QC(self) -> Tensor:  # noqa: N802
        """bool, candidates that are no negatives of a query: those of its target's item, and of its window where asked for."""
        if self.item_C is None:
            every_C = torch.arange(len(self.candidates_CD), device=self.target_Q.device)
            return self.target_Q[:, None] == every_C
        return hits(self.item_C, self.target_Q, self.window_Q, self.windows)


Loss = Callable[[Contrast], Tensor]
"""Mean loss of the queries of a step, a number with a gradient. With several processes each has a part of the queries and all
candidates; the parts count by their queries."""


def contrastive(contrast: Contrast) -> Tensor:
    """Return the cross-entropy of the targets: exact over all items, or over samples with their weights (InfoNCE)."""
    x_QD, y_CD, bias_C, target_Q = contrast.queries_QD, contrast.candidates_CD, contrast.bias_C, contrast.target_Q
    if contrast.log_weight_C is None:
        smoothing = contrast.label_smoothing
        return full_softmax(
            x_QD, y_CD, bias_C, target_Q, contrast.temperature, smoothing, contrast.product, contrast.weight_Q
        )
    return info_nce(
        x_QD,
        y_CD,
        bias_C,
        target_Q,
        contrast.excluded_QC,
        contrast.log_weight_C,
        contrast.temperature,
        contrast.hard_negatives,
        contrast.weight_Q,
    )


LOSSES: Parts[Loss] = Parts("losses", {"contrastive": contrastive}, lambda found: found if callable(found) else None)
"""All losses by name: ``train.loss``."""
