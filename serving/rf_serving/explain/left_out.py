"""By how much causes moved scores, found by leaving each out: exact for one cause at a time.

Shapes: K items, C causes, D width of the vectors that are searched.
"""

from collections.abc import Sequence
from time import perf_counter

import numpy as np
import numpy.typing as npt

from rf_serving.catalog.snapshot import CatalogSnapshot
from rf_serving.explain.limits import INTERACTIONS_AT_ONCE
from rf_serving.explain.scoring import Scoring
from rf_serving.explain.user_causes import UserCause
from rf_serving.user_features.features import KnownFeatures


class LeftOut:
    """Scores the items again without each cause."""

    def __init__(
        self, scoring: Scoring, read: KnownFeatures, vectors_KD: npt.NDArray[np.float32], catalog: CatalogSnapshot
    ) -> None:
        """Score the items with everything.

        Args:
            scoring: computes scores as for the answer.
            read: features of the user that were read.
            vectors_KD: the items.
            catalog: the snapshot that answered.
        """
        self._scoring, self._vectors_KD, self._catalog = scoring, vectors_KD, catalog
        self._whole_1K = scoring([read], vectors_KD, catalog)

    def __call__(self, causes: Sequence[UserCause]) -> npt.NDArray[np.float32]:
        """Return by how much each cause moved the score of each item [C, K]; NaN where that cannot be told."""
        return self._whole_1K - self._scoring([each.without for each in causes], self._vectors_KD, self._catalog)


def in_time(
    left_out: LeftOut, causes: Sequence[UserCause], length: int, until: float
) -> npt.NDArray[np.float32] | None:
    """Return the contributions of at least one cause [C, K], computed some at a time; None if there is no time for all.

    Args:
        left_out: computes them.
        causes: for which.
        length: interactions of a history, which decides how many fit in memory.
        until: when to stop, by :func:`time.perf_counter`.
    """
    at_once = max(1, INTERACTIONS_AT_ONCE // max(1, length))
    parts = []
    for start in range(0, len(causes), at_once):
        if perf_counter() >= until:
            return None
        parts.append(left_out(causes[start : start + at_once]))
    return np.concatenate(parts)
