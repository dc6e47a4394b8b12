"""The score of any user with any item, as the stages of an answer compute it.

Shapes: B users, N items, D width of the vectors that are searched, W width of what a re-ranker keeps of an item.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from rf_serving.catalog.snapshot import CatalogSnapshot
from rf_serving.encoding.user_encoder import EncodedUser, UserEncoder
from rf_serving.ranking.lime import histories_of
from rf_serving.user_features.features import KnownFeatures
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
            item_NW = item_sides(self._ranker, vectors_ND)
            dot_BN = np.stack([each.query_D for each in encoded.values()]) @ vectors_ND.T
            user = self._ranker.user_state(histories_of(list(encoded.values())))
            item_BNW = item_NW.expand(len(encoded), -1, -1)
            scores_BN[list(encoded)] = self._ranker(user, item_BNW, torch.from_numpy(dot_BN)).numpy()
        return scores_BN


def item_sides(ranker: Ranker, vectors_ND: npt.NDArray[np.float32]) -> Tensor:
    """Return what a re-ranker keeps of items [N, W], in full precision: a feature may weigh less than half of it rounds away."""
    side_NW: Tensor = ranker.item_state(torch.from_numpy(np.array(vectors_ND[:, : ranker.dim])))
    return side_NW
