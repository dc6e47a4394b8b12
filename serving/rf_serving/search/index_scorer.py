"""Scorer of the evaluation that searches a served index: it measures the loss from approximate search."""

import numpy as np
import numpy.typing as npt

from rf_serving.catalog.living import search_living
from rf_serving.index import Found, VectorIndex
from rf_serving.index.vector_index import NO_ROW
from rf_serving.search.depths import depths, search_deeper
from rf_training.evaluation.metrics import CUTOFFS
from rf_training.evaluation.sequences import Jagged
from rf_training.model_scorer import ModelScorer

LIST_LENGTH = max(CUTOFFS)
"""Recommendations asked for: as many as the longest list of the report."""


class IndexScorer:
    """Asks an index what the search and filter stages ask it for a request that leaves out seen items.

    That is, for the numbers of results that a server asks for one after the other (:func:`depths`), and where fewer unseen items
    than the list has places were found, for a scan. What was found scores its dot product, everything else ``-inf``, so that the
    order behind the list is up to chance.

    Items that are not recommendable lie in the index, as they do in a server's, and are never among what was found. They have
    their dot products all the same: no ranking counts them, but for that of a case that asks for one.
    """

    def __init__(self, model: ModelScorer, index: VectorIndex, k: int = LIST_LENGTH) -> None:
        """``index``: of the model's item vectors, in their order; ``k``: length of the list."""
        self._model, self._index, self._k = model, index, k
        self._vectors_ND = model.vectors_ND.cpu().numpy()
        hidden = model.sequences.hidden
        self._shown_N = np.ones(index.items, np.bool_) if hidden is None else ~hidden
        self._shown = int(np.count_nonzero(self._shown_N))

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
        rows, seen = np.divmod(np.unique(pairs[self._shown_N[pairs % n_items]]), n_items)
        n_seen_B = np.bincount(rows, minlength=len(users))
        scores_BN = np.full((len(users), n_items), -np.inf, np.float32)
        wanted_B = np.minimum(self._k, self._shown - n_seen_B)

        def take(asked: list[int], found: Found) -> npt.NDArray[np.bool_]:
            at, place = np.nonzero(found.rows != NO_ROW)
            scores_BN[np.array(asked)[at], found.rows[at, place]] = found.scores[at, place]
            found_BN = scores_BN > -np.inf
            n_unseen_B = found_BN.sum(axis=1) - np.bincount(rows[found_BN[rows, seen]], minlength=len(users))
            enough: npt.NDArray[np.bool_] = n_unseen_B[asked] >= wanted_B[asked]
            return enough

        def search(asked: list[int], depth: int) -> Found:
            # The number asked for decides how widely an index searches.
            return search_living(self._index, self._vectors_ND, self._shown_N, self._shown, queries_BD[asked], depth)

        depths_B = [depths(self._k, count) for count in n_seen_B.tolist()]
        if short := search_deeper(depths_B, search, take):
            scores_BN[short] = queries_BD[short] @ self._vectors_ND.T
        hidden = np.flatnonzero(~self._shown_N)
        scores_BN[:, hidden] = queries_BD @ self._vectors_ND[hidden].T
        return scores_BN
