"""Normalised discounted cumulative gain at k."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from rf_training.evaluation.metrics.metric import check_cutoff


@dataclass(frozen=True)
class NDCG:
    """Gain of the first k places, discounted by the logarithm of the place, over that of the ideal order.

    ``DCG@k = Σ_{r=1..k} rel_r / log2(r + 1)`` and ``NDCG@k = DCG@k / ideal DCG@k``. With the one relevant item of
    leave-one-out the ideal is ``1 / log2(2) = 1``, so the value is ``1 / log2(rank + 1)`` if ``rank <= k`` and 0
    otherwise.

    Edge cases: at ``k = 1`` it equals Recall@1.

    Järvelin and Kekäläinen (2002), "Cumulated gain-based evaluation of IR techniques", ACM TOIS 20(4), with the
    discount ``log2(r + 1)`` of Burges et al. (2005); for relevance 0 or 1 linear and exponential gain agree.
    """

    k: int
    """Length of the list."""

    def __post_init__(self) -> None:
        check_cutoff(self.k)

    @property
    def label(self) -> str:
        """Name with its cut-off."""
        return f"NDCG@{self.k}"

    def __call__(self, ranks: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.float64]:
        """``1 / log2(rank + 1)`` where the rank is at most k, else 0.0."""
        return np.where(ranks <= self.k, 1.0 / np.log2(ranks + 1.0), 0.0)
