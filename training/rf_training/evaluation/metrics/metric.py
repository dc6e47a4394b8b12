"""Interface of a ranking metric."""

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt


class Metric(Protocol):
    """Turns ranks into one value per case; the metric of a scorer is the mean over the cases.

    All metrics here are for one relevant item per case, as in leave-one-out.
    """

    @property
    def label(self) -> str:
        """Name in tables and, in lower case, in JSON, such as ``Recall@20``."""

    def __call__(self, ranks: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.float64]:
        """Value of each case in ``[0, 1]``, of the shape of ``ranks`` (1 = best place)."""


def check_cutoff(k: int) -> None:
    """Refuse a list length below 1 with a :class:`ValueError`."""
    if k < 1:
        raise ValueError(f"k is {k}: a list of recommendations has at least one place")
