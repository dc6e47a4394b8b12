"""Candidates that the retriever hands to a re-ranker: the best items of the whole catalog, without those the user has had.

Shapes: P positions in histories, K candidates, N items, S seen items of all places, Q width of searched vectors.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from rf_platform.cli.console import Tracker
from rf_training.device import numbers_at_once
from rf_training.evaluation.jagged import Jagged

CANDIDATES = 1000
"""How many are found for every place."""
MAX_SCORES = 1 << 23
"""Most scores held at once on a CPU: 32 MiB."""


@dataclass(frozen=True)
class Candidates:
    """The retriever's best items at every place, the best first."""

    item_PK: Tensor
    """int32 rows of the catalog; where a catalog has fewer unseen items than K, the last ones are repeats with the score -inf."""
    dot_PK: Tensor
    """The retriever's scores."""

    def __len__(self) -> int:
        return len(self.item_PK)


@torch.inference_mode()
def find_candidates(
    query_PQ: Tensor, vectors_NQ: Tensor, seen: Jagged, k: int = CANDIDATES, progress: Tracker | None = None
) -> Candidates:
    """Scan the catalog exactly for every place, some places at a time.

    Args:
        query_PQ: what to search with.
        vectors_NQ: of the catalog.
        seen: rows of the items that must not be found, for every place.
        k: how many to find.
        progress: told the number of places done.
    """
    n_items = len(vectors_NQ)
    k = min(k, n_items)
    device = query_PQ.device
    items, dots = (torch.empty(len(query_PQ), k, dtype=kind, device=device) for kind in (torch.int32, torch.float32))
    step = max(1, numbers_at_once(device, MAX_SCORES) // n_items)
    for start in range(0, len(query_PQ), step):
        rows = slice(start, min(start + step, len(query_PQ)))
        score_PN = query_PQ[rows] @ vectors_NQ.T
        offsets = seen.offsets[rows.start : rows.stop + 1]
        row_S = np.repeat(np.arange(rows.stop - rows.start), np.diff(offsets))
        item_S: npt.NDArray[np.int64] = seen.values[offsets[0] : offsets[-1]].astype(np.int64)
        score_PN[torch.from_numpy(row_S).to(device), torch.from_numpy(item_S).to(device)] = -torch.inf
        found = score_PN.topk(k, dim=1)
        items[rows], dots[rows] = found.indices.int(), found.values
        if progress is not None:
            progress.advance(rows.stop - rows.start)
    return Candidates(items, dots)
