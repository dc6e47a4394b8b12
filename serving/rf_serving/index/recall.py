"""Recall of an ANN index against the exact result.

Shapes: N items, B queries, D width.
"""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from rf_serving.index.exact import exact_search
from rf_serving.index.vector_index import VectorIndex

ROUNDING = 1e-6
"""Largest difference between two sums of the same products."""


def recall_against_exact(
    index: VectorIndex,
    vectors_ND: npt.NDArray[np.float32],
    queries_BD: npt.NDArray[np.float32],
    numbers: Iterable[int],
) -> dict[int, float]:
    """Return the mean share of the true ``k`` best rows that ``index`` finds when asked for ``k``, for each k of ``numbers``.

    A row that scores as well as the k-th true one counts as found: among equal scores any choice is right. Of a catalog with
    fewer than ``k`` items all are to be found; where nothing is, nothing is missed, and the recall is 1.
    """
    numbers = list(numbers)
    if not len(vectors_ND) or not len(queries_BD):
        return dict.fromkeys(numbers, 1.0)
    truth = exact_search(vectors_ND, queries_BD, max(numbers))
    recalls = {}
    for asked in numbers:
        k = min(asked, len(vectors_ND))
        found = index.search(queries_BD, k)
        hits = (found.rows >= 0) & (found.scores >= truth.scores[:, k - 1 : k] - ROUNDING)
        recalls[asked] = float(hits.sum(axis=1).clip(max=k).mean() / k)
    return recalls
