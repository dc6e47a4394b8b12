"""Items consumed by the same users as the items of the history."""

import numpy as np
import numpy.typing as npt
from scipy import sparse

from rf_training.evaluation.sequences import Jagged, Sequences, training_items

MAX_SIMILARITIES = 1 << 22
"""Most similarities held at once before the neighbours are chosen (at least one item's): about 120 MiB."""


class ItemKNN:
    """Item-based nearest neighbours: the score of an item is the sum of its similarities to the recent history.

    Similarity is the shrunk cosine of the binary user-by-item matrix of the training split,
    ``sim(i, j) = |U_i ∩ U_j| / (sqrt(|U_i| |U_j|) + shrinkage)`` with ``U_i`` the users who consumed item i. For every
    item only its most similar items are kept; of those that tie for the last places the ones with the lowest item rows.

    Sarwar et al. (2001), "Item-based collaborative filtering recommendation algorithms", WWW; Deshpande and Karypis
    (2004), "Item-based top-N recommendation algorithms", ACM TOIS 22(1).

    Limits: items without training events score 0 for everyone, and so does every item for an empty history. The order
    within the recent history is not used. Fitting costs the sum of squared lengths of the user sequences.
    """

    name = "item-knn"

    def __init__(self, similarity: sparse.csr_array, *, recent: int) -> None:
        """``similarity``: sparse ``[n_items, n_items]``, row = item of the history, columns = its neighbours."""
        self.similarity = similarity
        self.recent = recent

    @classmethod
    def fit(
        cls, sequences: Sequences, *, n_items: int, neighbours: int = 100, shrinkage: float = 20.0, recent: int = 5
    ) -> "ItemKNN":
        """Compute the similarities from the training split; validation and test events are not looked at.

        The defaults were chosen on the validation splits of MovieLens-1M and Amazon Beauty and Toys: of the three,
        ``recent`` matters most.

        Args:
            sequences: Events of the dataset version.
            n_items: Size of the catalog.
            neighbours: Most neighbours kept for an item.
            shrinkage: Added to the denominator; larger values distrust items with few users more.
            recent: Number of latest events of a history that are summed over, repeated ones each time.

        Raises:
            ValueError: If ``neighbours`` or ``recent`` is below 1 or ``shrinkage`` is negative.
        """
        if neighbours < 1 or recent < 1 or shrinkage < 0:
            raise ValueError(
                f"neighbours={neighbours} and recent={recent} must be at least 1, shrinkage={shrinkage} at least 0"
            )
        consumed = _binary_matrix(training_items(sequences), n_items)
        by_item = consumed.T.tocsr()
        norms = np.sqrt(np.diff(by_item.indptr)).astype(np.float32)
        step = max(1, MAX_SIMILARITIES // max(1, n_items))
        blocks = [sparse.csr_matrix((0, n_items), dtype=np.float32)]
        for start in range(0, n_items, step):
            block = by_item[start : start + step] @ consumed  # users in common
            block.sort_indices()
            items = start + np.repeat(np.arange(block.shape[0]), np.diff(block.indptr))
            block.data /= norms[items] * norms[block.indices] + np.float32(shrinkage)
            block.data[items == block.indices] = 0.0  # an item is no neighbour of itself
            blocks.append(_largest(block, neighbours))
        return cls(sparse.vstack(blocks, format="csr"), recent=recent)

    def scores(self, users: npt.NDArray[np.int64], histories: Jagged) -> npt.NDArray[np.float32]:
        """``[B, n_items]``, 0 for items that are no neighbour of any recent item."""
        recent = histories.last(self.recent)
        ones = np.ones(len(recent.values), dtype=np.float32)
        shape = (len(recent), self.similarity.shape[0])
        result: npt.NDArray[np.float32] = (
            sparse.csr_array((ones, recent.values, recent.offsets), shape=shape) @ self.similarity
        ).toarray()
        return result


def _binary_matrix(items: Jagged, n_items: int) -> sparse.csr_array:
    """``[n_users, n_items]`` of float32 ones where the user consumed the item."""
    ones = np.ones(len(items.values), dtype=np.float32)
    matrix = sparse.csr_array((ones, items.values, items.offsets), shape=(len(items), n_items))
    matrix.sum_duplicates()
    matrix.data[:] = 1.0
    return matrix


def _largest(block: sparse.csr_array, count: int) -> sparse.csr_array:
    """Keep the ``count`` largest positive values of each row, at equal values those with the lowest columns."""
    for row in np.flatnonzero(np.diff(block.indptr) > count):
        values = block.data[block.indptr[row] : block.indptr[row + 1]]
        smallest_kept = np.partition(values, -count)[-count]
        above, tied = values > smallest_kept, values == smallest_kept
        places = count - np.count_nonzero(above)
        values[~(above | (tied & (np.cumsum(tied) <= places)))] = 0.0
    block.eliminate_zeros()
    return block
