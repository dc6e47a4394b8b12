"""How much of the true result an approximate index finds.

Shapes: N items, B queries, D width.
"""

import numpy as np
import numpy.typing as npt

from rf_serving.index.exact import ExactIndex
from rf_serving.index.vector_index import VectorIndex


def recall_against_exact(
    index: VectorIndex, vectors_ND: npt.NDArray[np.float32], queries_BD: npt.NDArray[np.float32], k: int
) -> float:
    """Return the mean share of the true ``k`` best rows that ``index`` finds.

    A row that scores as well as the k-th true one counts as found: among equal scores any choice is right.
    """
    k = min(k, len(vectors_ND))
    truth = ExactIndex.build(vectors_ND).search(queries_BD, k)
    found = index.search(queries_BD, k)
    rounding = 1e-6
    hits = (found.rows >= 0) & (found.scores >= truth.scores[:, -1:] - rounding)
    return float(hits.sum(axis=1).clip(max=k).mean() / k)
