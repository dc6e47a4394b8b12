"""Find the least effort that gives the recall asked for.

Shapes: N items, B queries, S candidates, K results, D width.
"""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from rf_serving.index.approximate import ApproximateIndex
from rf_serving.index.effort import Effort, Efforts
from rf_serving.index.exact import exact_search
from rf_serving.index.recall import ROUNDING
from rf_serving.index.rescore import scores_of

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
    enough: float | None = None
    lengths = index.short_lists(k)
    for width in index.widths(k):
        if enough is not None and index.cost(Effort(k=k, width=width, short_list=k)) >= enough:
            break
        rows_BS = index.candidates(queries_BD, Effort(k=k, width=width, short_list=lengths[-1]))
        hits_BS = scores_of(vectors_ND, queries_BD, rows_BS) >= least_B[:, None] - ROUNDING
        found_BS = np.cumsum(hits_BS, axis=1).clip(max=k) / k
        for length in lengths:
            effort = Effort(k=k, width=width, short_list=length)
            recall_B = found_BS[:, length - 1]
            sure = float(recall_B.mean() - CAUTION * recall_B.std() / len(recall_B) ** 0.5)
            tried.append((sure, index.cost(effort), effort))
            if sure >= recall:
                enough = min(tried[-1][1], enough or math.inf)
    reached = min(recall, max(sure for sure, _, _ in tried) - (0.0 if enough is not None else NEARLY))
    return min((each for each in tried if each[0] >= reached), key=lambda each: each[1])[2]
