"""Mean reciprocal rank."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class ReciprocalRank:
    """One over the place of the first relevant item, whose mean over the cases is MRR.

    ``MRR = mean(1 / rank)`` over the full catalog, without a cut-off: no case counts as 0, the last place of a
    catalog of n items counts 1/n.

    Edge cases: published figures often cut at 10 or 20 (MRR@k), which makes them smaller and not comparable.

    Voorhees (1999), "The TREC-8 question answering track report", TREC.
    """

    @property
    def label(self) -> str:
        """Name of the mean."""
        return "MRR"

    def __call__(self, ranks: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.float64]:
        """``1 / rank``."""
        return 1.0 / ranks
