"""Mean reciprocal rank, of the whole ranking or of its first k places."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from rf_training.evaluation.metrics.metric import check_cutoff


@dataclass(frozen=True)
class ReciprocalRank:
    """One over the place of the first relevant item; its mean over the cases is MRR.

    ``MRR = mean(1 / rank)`` over the whole ranking; ``MRR@k`` counts 0 where the first relevant item is not among the
    first k.

    Edge cases: without a cut-off no case counts as 0, the last place of a catalog of n items counts 1/n, so that MRR is
    never smaller than MRR@k and the two are not comparable. At ``k = 1`` it equals Recall@1.

    Voorhees (1999), "The TREC-8 question answering track report", TREC (with a cut-off at 5).
    """

    k: int | None = None
    """Length of the list; None for the whole ranking."""

    def __post_init__(self) -> None:
        if self.k is not None:
            check_cutoff(self.k)

    @property
    def label(self) -> str:
        """Name of the mean, with its cut-off if it has one."""
        return "MRR" if self.k is None else f"MRR@{self.k}"

    def __call__(self, ranks: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.float64]:
        """``1 / rank``, 0.0 behind the cut-off."""
        reciprocal = 1.0 / ranks
        return reciprocal if self.k is None else np.where(ranks <= self.k, reciprocal, 0.0)
