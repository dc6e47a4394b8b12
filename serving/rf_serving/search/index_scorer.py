"""Scorer of the evaluation that searches a served index: it measures the loss from approximate search."""

import numpy as np
import numpy.typing as npt

from rf_serving.index import VectorIndex
from rf_serving.index.vector_index import NO_ROW
from rf_serving.search.searcher import depth_of, likely_enough
from rf_training.evaluation.metrics import CUTOFFS
from rf_training.evaluation.sequences import Jagged
from rf_training.model_scorer import ModelScorer

LIST_LENGTH = max(CUTOFFS)
"""Recommendations asked for: as many as the longest list of the report."""


class IndexScorer:
    """Asks an index what the search and filter stages ask it for a request that leaves out seen items.

    That is, for the list and as many more items as the user has seen (:func:`likely_enough`), or the next of the numbers a
    server asks for (:func:`depth_of`); and where fewer unseen items than the list has places were found, for a scan. What was
    found scores its dot product, everything else ``-inf``, so that the order behind the list is up to chance.
    """

    def __init__(self, model: ModelScorer, index: VectorIndex, k: int = LIST_LENGTH) -> None:
        """``index``: of the model's item vectors, in their order; ``k``: length of the list."""
        self._model, self._index, self._k = model, index, k

    @property
    def name(self) -> str:
        """The model's name with the kind of index."""
        return f"{self._model.name} ({self._index.kind})"

    def scores(self, users: npt.NDArray[np.int64], histories: Jagged) -> npt.NDArray[np.float32]:
        """Return the scores [users, items], ``-inf`` for what was not found."""
        n_items = self._index.items
        queries_BD = self._model.queries(users, histories.lengths).cpu().numpy()
        pairs = histories.row_of_value * n_items + histories.values
        if (aside := self._model.sequences.aside) is not None:
            starts = np.asarray(self._model.sequences.offsets)[users]
            row, item = aside.seen(starts, starts + histories.lengths)
            pairs = np.concatenate([pairs, row * n_items + item])
        rows, seen = np.divmod(np.unique(pairs), n_items)
        n_seen_B = np.bincount(rows, minlength=len(users))
        scores_BN = np.full((len(users), n_items), -np.inf, np.float32)
        depth_B = np.array([depth_of(likely_enough(self._k, count)) for count in n_seen_B.tolist()])
        for depth in np.unique(depth_B):  # the number asked for decides how widely an index searches
            asked = np.flatnonzero(depth_B == depth)
            found = self._index.search(queries_BD[asked], int(depth))
            at, place = np.nonzero(found.rows != NO_ROW)
            scores_BN[asked[at], found.rows[at, place]] = found.scores[at, place]
        found_BN = scores_BN > -np.inf
        n_unseen_B = found_BN.sum(axis=1) - np.bincount(rows[found_BN[rows, seen]], minlength=len(users))
        short = np.flatnonzero(n_unseen_B < np.minimum(self._k, n_items - n_seen_B))
        if len(short):
            scores_BN[short] = queries_BD[short] @ self._model.vectors_ND.cpu().numpy().T
        return scores_BN
