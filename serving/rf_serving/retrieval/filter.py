"""Stage "filter": leave out what must not be shown, and never fall short while there is more."""

import numpy as np
import numpy.typing as npt

from rf_serving.bundle.served import ServedBundle
from rf_serving.index import Found
from rf_serving.index.vector_index import NO_ROW


class Filter:
    """Drops excluded items; where an approximate search found too few, scans the catalog."""

    def __init__(self, bundle: ServedBundle) -> None:
        self._vectors_ND = bundle.vectors_ND

    def filter(self, query_D: npt.NDArray[np.float32], found: Found, excluded: npt.NDArray[np.int64], k: int) -> Found:
        """Return the ``k`` best items that are not excluded, fewer only if no more are eligible.

        Args:
            query_D: the query vector, for the scan.
            found: candidates, best first, enough to hold the result beside all excluded items.
            excluded: distinct rows that must not be returned.
            k: number of items.
        """
        keep = found.rows != NO_ROW
        if len(excluded):
            keep &= ~np.isin(found.rows, excluded)
        rows = found.rows[keep][:k]
        if len(rows) < min(k, len(self._vectors_ND) - len(excluded)):
            return self._scan(query_D, excluded, k)
        return Found(rows=rows, scores=found.scores[keep][:k])

    def _scan(self, query_D: npt.NDArray[np.float32], excluded: npt.NDArray[np.int64], k: int) -> Found:
        scores = self._vectors_ND @ query_D
        eligible = np.delete(np.arange(len(scores)), excluded)
        best = eligible[np.argsort(-scores[eligible], kind="stable")[:k]]
        return Found(rows=best, scores=scores[best])
