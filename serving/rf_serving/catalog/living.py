"""Search among the rows of an index that live, where others lie in it as well.

Shapes: N rows, B queries, K results, D width.
"""

import numpy as np
import numpy.typing as npt

from rf_serving.index import Found, VectorIndex
from rf_serving.index.vector_index import NO_ROW

_SLACK = 16
"""Results asked of the index beside those needed, where some of its rows are dead."""
_TRIES = 4
"""Most times that an ANN index is asked for twice as many, before all rows are scored."""
_ROWS_AT_ONCE = 65_536


def search_living(
    index: VectorIndex,
    vectors_ND: npt.NDArray[np.float32],
    live_mask_N: npt.NDArray[np.bool_],
    alive: int,
    queries_BD: npt.NDArray[np.float32],
    k: int,
) -> Found:
    """Return about the ``k`` best living rows of each query [B, K], as many as there are and no more than ``k``.

    Args:
        index: has all rows.
        vectors_ND: its rows.
        live_mask_N: which of them live.
        alive: how many do.
        queries_BD: what is searched with.
        k: rows wanted.
    """
    k, total = min(k, alive), len(vectors_ND)
    if k == 0:
        return Found(np.empty((len(queries_BD), 0), np.int64), np.empty((len(queries_BD), 0), np.float32))
    if alive == total:
        return index.search(queries_BD, k)
    asked = k * total // alive + _SLACK
    for _ in range(1 if index.exact else _TRIES):
        asked = min(asked, k + total - alive)
        found = living(index.search(queries_BD, asked), live_mask_N, k)
        if (found.rows[:, -1] != NO_ROW).all():
            return found
        asked *= 2
    for query in np.flatnonzero(found.rows[:, -1] == NO_ROW):
        found.rows[query], found.scores[query] = _scan(vectors_ND, live_mask_N, queries_BD[query], k)
    return found


def living(found: Found, live_mask_N: npt.NDArray[np.bool_], k: int) -> Found:
    """Keep the ``k`` best that live, :data:`NO_ROW` where there are fewer."""
    living = (found.rows != NO_ROW) & live_mask_N[found.rows]
    order = np.argsort(~living, axis=1, kind="stable")[:, :k]
    kept = np.take_along_axis(living, order, axis=1)
    rows = np.where(kept, np.take_along_axis(found.rows, order, axis=1), NO_ROW)
    scores = np.where(kept, np.take_along_axis(found.scores, order, axis=1), np.float32(-np.inf))
    missing = k - rows.shape[1]
    if missing > 0:
        rows = np.pad(rows, ((0, 0), (0, missing)), constant_values=NO_ROW)
        scores = np.pad(scores, ((0, 0), (0, missing)), constant_values=-np.inf)
    return Found(rows, scores)


def _scan(
    vectors_ND: npt.NDArray[np.float32], live_mask_N: npt.NDArray[np.bool_], query_D: npt.NDArray[np.float32], k: int
) -> Found:
    blocks = range(0, len(vectors_ND), _ROWS_AT_ONCE)
    scores = np.concatenate([vectors_ND[start : start + _ROWS_AT_ONCE] @ query_D for start in blocks])
    scores[~live_mask_N] = -np.inf
    rows = np.argpartition(-scores, k - 1)[:k] if k < len(scores) else np.arange(k)
    rows = rows[np.argsort(-scores[rows], kind="stable")]
    return Found(rows, scores[rows])
