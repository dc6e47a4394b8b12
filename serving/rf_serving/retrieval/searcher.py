"""Stage "search": the items nearest to a query vector."""

import numpy as np
import numpy.typing as npt

from rf_serving.bundle.served import ServedBundle
from rf_serving.index import Found


class Searcher:
    """Asks the bundle's index."""

    def __init__(self, bundle: ServedBundle) -> None:
        self._index = bundle.index

    def search(self, query_D: npt.NDArray[np.float32], k: int) -> Found:
        """Return the ``k`` best items [k], fewer if the catalog is smaller."""
        found = self._index.search(query_D[None], k)
        return Found(rows=found.rows[0], scores=found.scores[0])
