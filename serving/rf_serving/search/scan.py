"""The exact search among eligible rows.

Shapes: N rows, E eligible rows, B queries, K results, D width.
"""

import numpy as np
import numpy.typing as npt

from rf_serving.catalog.snapshot import CatalogSnapshot
from rf_serving.index import Found
from rf_serving.search.eligibility import Passing

BLOCK = 65_536
"""Rows that are scored together: 16 MB of 64 numbers each."""


class Best:
    """The best rows of one query among those offered so far."""

    def __init__(self, k: int) -> None:
        self._k, self._least = k, -np.inf
        self._rows: npt.NDArray[np.int64] = np.zeros(0, np.int64)
        self._scores: npt.NDArray[np.float32] = np.zeros(0, np.float32)

    def offer(self, rows: npt.NDArray[np.int64] | int, scores: npt.NDArray[np.float32]) -> None:
        """Merge the best of some more rows.

        Args:
            rows: the rows, or the first of rows without a gap.
            scores: of the rows; ``-inf`` for one that is not to be taken.
        """
        better = np.flatnonzero(scores > self._least)
        if not len(better):
            return
        scores = scores[better]
        rows = better + rows if isinstance(rows, int) else rows[better]
        self._rows, self._scores = np.concatenate([self._rows, rows]), np.concatenate([self._scores, scores])
        if len(self._rows) > self._k:
            kept = np.argpartition(-self._scores, self._k - 1)[: self._k]
            self._rows, self._scores = self._rows[kept], self._scores[kept]
            self._least = self._scores.min()

    def found(self) -> Found:
        """Return the rows, best first, those of equal score rising."""
        order = np.lexsort((self._rows, -self._scores))
        return Found(rows=self._rows[order], scores=self._scores[order])


def scan_passing(
    catalog: CatalogSnapshot, passing: Passing, queries_BD: npt.NDArray[np.float32], ks: list[int], whole_share: float
) -> list[Found]:
    """Score every passing row and return the best of each query.

    Args:
        catalog: what is searched.
        passing: which rows; all of them live.
        queries_BD: the queries.
        ks: number of results of each query; fewer are returned only where fewer rows pass.
        whole_share: share of passing rows from which it is cheaper to score a whole block than to gather them.
    """
    best = [Best(k) for k in ks]
    if passing.listed or passing.count < whole_share * catalog.rows:
        for start in range(0, passing.count, BLOCK):
            rows = passing.rows[start : start + BLOCK]
            scores_BE = queries_BD @ catalog.vectors(rows).T
            for each, scores in zip(best, scores_BE, strict=True):
                each.offer(rows, scores)
    else:
        for start, block_ND in catalog.blocks(BLOCK):
            mask = passing.mask[start : start + len(block_ND)]
            scores_BN = queries_BD @ block_ND.T
            scores_BN[:, ~mask] = -np.inf
            for each, scores in zip(best, scores_BN, strict=True):
                each.offer(start, scores)
    return [each.found() for each in best]
