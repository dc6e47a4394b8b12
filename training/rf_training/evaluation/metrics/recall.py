"""Recall at k."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from rf_training.evaluation.metrics.metric import check_cutoff


@dataclass(frozen=True)
class Recall:
    """Share of the relevant items that are among the first k.

    ``Recall@k = |relevant ∩ top k| / |relevant|``; with the one relevant item of leave-one-out it is 1 if
    ``rank <= k`` and 0 otherwise, and the same as the hit rate ``HR@k``.

    Edge cases: a ``k`` of the size of the catalog or more gives 1 for every case.

    Karypis (2001), "Evaluation of item-based top-N recommendation algorithms", CIKM, defines it for one held-out item.
    """

    k: int
    """Length of the list."""

    def __post_init__(self) -> None:
        check_cutoff(self.k)

    @property
    def label(self) -> str:
        """Name with its cut-off."""
        return f"Recall@{self.k}"

    def __call__(self, ranks: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.float64]:
        """1.0 where the rank is at most k, else 0.0."""
        return (ranks <= self.k).astype(np.float64)
