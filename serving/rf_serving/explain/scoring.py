"""Score of any user with any item, as the stages of an answer compute it, and what LIME's links read for it.

Shapes: B users, N items, K items of an answer, T events of the history, D width of the vectors that are searched, L links,
H heads, W width of what a re-ranker keeps of an item.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from rf_serving.catalog.snapshot import CatalogSnapshot
from rf_serving.encoding import EncodedUser, UserEncoder
from rf_serving.ranking.lime import histories_of
from rf_serving.user_features.features import KnownFeatures
from rf_training.rerank.lime import Lime
from rf_training.rerank.ranker import Ranker


class Scoring(Protocol):
    """Scores of items, computed as for an answer."""

    def __call__(
        self, users: Sequence[KnownFeatures], vectors_ND: npt.NDArray[np.float32], catalog: CatalogSnapshot
    ) -> npt.NDArray[np.float32]:
        """Return the score of each user with each item [B, N]; NaN for a user with features that give none."""


class DotProduct:
    """The retriever's own score."""

    def __init__(self, encoder: UserEncoder) -> None:
        self._encoder = encoder

    def __call__(
        self, users: Sequence[KnownFeatures], vectors_ND: npt.NDArray[np.float32], catalog: CatalogSnapshot
    ) -> npt.NDArray[np.float32]:
        """See :class:`Scoring`."""
        none_D = np.full(vectors_ND.shape[1], np.nan, np.float32)
        found = self._encoder.encode_users(users, catalog)
        queries_BD = np.stack([each.query_D if isinstance(each, EncodedUser) else none_D for each in found])
        scores_BN: npt.NDArray[np.float32] = queries_BD @ vectors_ND.T
        return scores_BN


class Reranked:
    """The score of a re-ranker, which reads the retriever's among others."""

    def __init__(self, encoder: UserEncoder, ranker: Ranker) -> None:
        self._encoder, self._ranker = encoder, ranker

    @torch.inference_mode()
    def __call__(
        self, users: Sequence[KnownFeatures], vectors_ND: npt.NDArray[np.float32], catalog: CatalogSnapshot
    ) -> npt.NDArray[np.float32]:
        """See :class:`Scoring`."""
        found = self._encoder.encode_users(users, catalog)
        encoded = {place: each for place, each in enumerate(found) if isinstance(each, EncodedUser)}
        scores_BN = np.full((len(users), len(vectors_ND)), np.nan, np.float32)
        if encoded:
            item_NW = item_states(self._ranker, vectors_ND)
            dot_BN = np.stack([each.query_D for each in encoded.values()]) @ vectors_ND.T
            user = self._ranker.user_state(histories_of(list(encoded.values())))
            item_BNW = item_NW.expand(len(encoded), -1, -1)
            scores_BN[list(encoded)] = self._ranker(user, item_BNW, torch.from_numpy(dot_BN)).numpy()
        return scores_BN


def item_states(ranker: Ranker, vectors_ND: npt.NDArray[np.float32]) -> Tensor:
    """Return what a re-ranker keeps of items [N, W], in full precision: a feature may weigh less than half of it rounds away."""
    side_NW: Tensor = ranker.item_state(torch.from_numpy(np.array(vectors_ND[:, : ranker.dim])))
    return side_NW


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
    weight_KLH = ranker.link_weights(item_states(ranker, vectors_KD)).abs()
    read_TK = torch.einsum("hlt,klh->tk", attention_HLT, weight_KLH)
    shares_TK: npt.NDArray[np.float32] = (read_TK / read_TK.sum(0).clamp(min=_LEAST)).numpy()
    return shares_TK
