"""Attention of LIME's links to the events of a history, for an item.

Shapes: K items, T events of the history, D width of the vectors that are searched, L links, H heads, W width of what LIME keeps
of an item.
"""

import numpy as np
import numpy.typing as npt
import torch

from rf_serving.catalog.snapshot import CatalogSnapshot
from rf_serving.encoding.user_encoder import EncodedUser, UserEncoder
from rf_serving.explain.scoring import item_sides
from rf_serving.ranking.lime import histories_of
from rf_serving.user_features.features import KnownFeatures
from rf_training.rerank.lime import Lime

_LEAST = 1e-30


@torch.inference_mode()
def link_shares(
    encoder: UserEncoder,
    ranker: Lime,
    read: KnownFeatures,
    vectors_KD: npt.NDArray[np.float32],
    catalog: CatalogSnapshot,
) -> npt.NDArray[np.float32]:
    """Return each event's share of what is read of the history for each item [T, K]: the shares of an item sum to 1.

    An event counts as far as each link attends to it, times the size of the item's weight of that link, over links and heads.

    Args:
        encoder: of requests.
        ranker: what ordered the items.
        read: features of the user that were read, with at least one event.
        vectors_KD: the items.
        catalog: the snapshot that answered.
    """
    (whole,) = encoder.encode_users([read], catalog)
    assert isinstance(whole, EncodedUser), whole  # it was answered
    attention_HLT = ranker.link_attention(histories_of([whole]))[0]
    weight_KLH = ranker.link_weights(item_sides(ranker, vectors_KD)).abs()
    read_TK = torch.einsum("hlt,klh->tk", attention_HLT, weight_KLH)
    shares_TK: npt.NDArray[np.float32] = (read_TK / read_TK.sum(0).clamp(min=_LEAST)).numpy()
    return shares_TK
