"""Area under the ROC curve of one ranking."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class AUC:
    """Chance that the relevant item stands before another candidate drawn at random.

    ``AUC = #candidates behind the target / #other candidates = (n - rank) / (n - 1)`` for one relevant item among n
    candidates; its mean over the cases is the AUC averaged over users that recommenders are trained for as BPR (Rendle
    et al., 2009, UAI), and for one case that of the ROC curve (Hanley and McNeil, 1982, "The meaning and use of the area
    under a receiver operating characteristic (ROC) curve", Radiology 143(1)).

    Unlike the metrics of the first k places it depends on how many candidates there are, so it takes their number beside the
    rank. It weighs all places alike: where only the top of a long list is looked at, it says little.

    Edge cases: a target that is the only candidate has nothing to be compared with and counts 0.5, like chance.
    """

    @property
    def label(self) -> str:
        """Name of the mean."""
        return "AUC"

    def __call__(
        self, ranks: npt.NDArray[np.integer[Any]], candidates: npt.NDArray[np.integer[Any]]
    ) -> npt.NDArray[np.float64]:
        """``(n - rank) / (n - 1)``.

        Args:
            ranks: place of the target, from 1.
            candidates: how many were ranked, the target included; of the same shape.
        """
        others = candidates - 1
        return np.where(others > 0, (candidates - ranks) / np.maximum(others, 1), 0.5)
