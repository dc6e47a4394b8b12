"""Recall of an index against the exact search, and the least effort that gives the recall asked for.

Shapes: N items, B queries, S candidates, K results, D width.
"""

from collections.abc import Iterable, Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from rf_serving.index.approximate import ApproximateIndex, Effort, Efforts
from rf_serving.index.exact import exact_search
from rf_serving.index.vector_index import NO_ROW, VectorIndex

_AT_ONCE = 64
_PARTS = 4
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


TUNED_FOR = (100, 1000)
"""Numbers of results that are tuned for."""
NEARLY = 0.001
"""Recall given up for a cheaper search, from the highest one, if the target is out of reach."""
CAUTION = 2.0
"""Standard errors by which the mean recall on the queries must exceed what is asked for: other queries are to have it too."""


def tune(
    index: ApproximateIndex,
    vectors_ND: npt.NDArray[np.float32],
    queries_BD: npt.NDArray[np.float32],
    recall: float,
    numbers: Sequence[int] = TUNED_FOR,
) -> None:
    """Set ``index.efforts`` to the cheapest ones with a mean recall on ``queries_BD`` above ``recall``.

    Where none reaches it, the cheapest one of about the highest recall is taken. Without a row or a query the efforts stay as
    they are.

    Args:
        index: what to tune.
        vectors_ND: the rows it was built from.
        queries_BD: other queries than those the recall is measured on afterwards.
        recall: share of the true best rows to be found.
        numbers: numbers of results to tune for; at most N.
    """
    if not index.items or not len(queries_BD):
        return
    wanted = sorted({min(k, index.items) for k in numbers})
    truth = exact_search(vectors_ND, queries_BD, wanted[-1])
    index.efforts = Efforts(_cheapest(index, vectors_ND, queries_BD, truth.scores[:, k - 1], k, recall) for k in wanted)


def _cheapest(
    index: ApproximateIndex,
    vectors_ND: npt.NDArray[np.float32],
    queries_BD: npt.NDArray[np.float32],
    least_B: npt.NDArray[np.float32],
    k: int,
    recall: float,
) -> Effort:
    """Return the cheapest effort for ``k`` results; ``least_B`` is the score of the k-th true one."""
    tried: list[tuple[float, float, Effort]] = []
    lengths = index.refine_ks(k)

    def attempt(probes: int) -> bool:
        """Try all lengths of the short list, unless the shortest costs more than what is enough; return whether it was tried."""
        enough = [cost for sure, cost, _ in tried if sure >= recall]
        if enough and index.cost(Effort(k=k, probes=probes, refine_k=k)) >= min(enough):
            return False
        rows_BS = index.candidates(queries_BD, Effort(k=k, probes=probes, refine_k=lengths[-1]))
        hits_BS = _scores_of(vectors_ND, queries_BD, rows_BS) >= least_B[:, None] - ROUNDING
        found_BS = np.cumsum(hits_BS, axis=1).clip(max=k) / k
        for length in lengths:
            effort = Effort(k=k, probes=probes, refine_k=length)
            recall_B = found_BS[:, length - 1]
            sure = float(recall_B.mean() - CAUTION * recall_B.std() / len(recall_B) ** 0.5)
            tried.append((sure, index.cost(effort), effort))
        return True

    steps = index.probes(k)
    for probes in steps:
        if not attempt(probes):
            break
    for probes in _between(steps, _best_of(tried, recall).probes):
        attempt(probes)
    return _best_of(tried, recall)


def _best_of(tried: Sequence[tuple[float, float, Effort]], recall: float) -> Effort:
    """Return the cheapest effort that is sure of the recall; where none is, of about the highest."""
    highest = max(sure for sure, _, _ in tried)
    reached = recall if highest >= recall else highest - NEARLY
    return min((each for each in tried if each[0] >= reached), key=lambda each: each[1])[2]


def _between(steps: Sequence[int], chosen: int) -> list[int]:
    """Return what divides the gaps at both sides of a step in :data:`_PARTS`, rising."""
    place = steps.index(chosen)
    around = steps[max(0, place - 1) : place + 2]
    divided = {low + (high - low) * part // _PARTS for low, high in pairwise(around) for part in range(1, _PARTS)}
    return sorted(divided - set(around))


def _scores_of(
    vectors_ND: npt.NDArray[np.float32], queries_BD: npt.NDArray[np.float32], rows_BS: npt.NDArray[np.int64]
) -> npt.NDArray[np.float32]:
    """Return the dot products of each query's candidates [B, S], in their order; ``-inf`` for ``NO_ROW``."""
    scores_BS = np.empty(rows_BS.shape, np.float32)
    for start in range(0, len(rows_BS), _AT_ONCE):
        some = slice(start, start + _AT_ONCE)
        scores_BS[some] = np.einsum("bsd,bd->bs", vectors_ND[rows_BS[some]], queries_BD[some])
    scores_BS[rows_BS == NO_ROW] = -np.inf
    return scores_BS
