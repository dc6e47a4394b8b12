"""A re-ranker's scores of the candidates of many places, in batches.

Shapes: P positions, B of them at once, K candidates, N items, W width of what is kept of an item.
"""

import torch
from torch import Tensor

from rf_platform.cli.console import Tracker
from rf_training.rerank.ranker import Ranker
from rf_training.rerank.towers import EncodedPositions

PAIRS_AT_ONCE = 1 << 15
"""Most pairs of a place and a candidate that are scored at once."""


@torch.inference_mode()
def item_states(ranker: Ranker, unit_ND: Tensor) -> Tensor:
    """Return what a re-ranker keeps of the whole catalog [N, W]."""
    return torch.cat([ranker.item_state(part_ND) for part_ND in torch.split(unit_ND, 4096)])


@torch.inference_mode()
def score_candidates(
    ranker: Ranker,
    item_states_NW: Tensor,
    encoded: EncodedPositions,
    item_PK: Tensor,
    dot_PK: Tensor,
    progress: Tracker | None = None,
) -> Tensor:
    """Return the scores [P, K] that order the candidates of every place.

    A place without any interaction keeps the retriever's scores, as a server does: there is no history to attend to.

    Args:
        ranker: in evaluation mode.
        item_states_NW: of :func:`item_states`.
        encoded: the places.
        item_PK: rows of the candidates.
        dot_PK: the retriever's scores of them.
        progress: told the number of places done.
    """
    score_PK = dot_PK.clone()
    order_P = torch.argsort(encoded.length_P, stable=True)
    order_P = order_P[encoded.length_P[order_P] > 0]
    if progress is not None:
        progress.advance(len(encoded) - len(order_P))
    for rows_B in torch.split(order_P, max(1, PAIRS_AT_ONCE // max(1, item_PK.shape[1]))):
        user = ranker.user_state(encoded.histories(rows_B))
        item_BKW = item_states_NW[item_PK[rows_B].long()]
        found_BK: Tensor = ranker(user, item_BKW, dot_PK[rows_B])
        score_PK[rows_B] = found_BK
        if progress is not None:
            progress.advance(len(rows_B))
    return score_PK
