"""Stage "rerank": the order of the candidates by the bundle's re-ranker.

Shapes: B requests, T longest history, D width of the towers, K candidates, W width of what is kept of an item.
"""

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from threading import local
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn.utils.rnn import pad_sequence

from rf_serving.catalog.snapshot import CatalogSnapshot
from rf_serving.encoding import EncodedUser
from rf_serving.index import Found
from rf_serving.threads import use_one_thread
from rf_training.rerank.ranker import Histories, Ranker


class _Beside(local):
    """A second thread for each thread that answers, made by it: so it has the priority of the thread that waits for it."""

    def __init__(self) -> None:
        self.thread = ThreadPoolExecutor(1, "rf-user-state", use_one_thread)


_BESIDE = _Beside()


class ReRanker:
    """Scores what was found for requests of one bundle.

    What depends on the user alone is computed in another thread while the index is searched: both let go of Python's lock.
    Safe from any thread.
    """

    def __init__(self, ranker: Ranker) -> None:
        self.ranker = ranker

    def begin(self, users: Sequence[EncodedUser]) -> "Future[Any]":
        """Start computing the user states of some requests."""
        return _BESIDE.thread.submit(self._user_state, users)

    @torch.inference_mode()
    def scores(
        self, user: "Future[Any]", found: Sequence[Found], catalog: CatalogSnapshot
    ) -> list[npt.NDArray[np.float32]]:
        """Return the scores of what was found for each request, in the order it was found.

        Args:
            user: of :meth:`begin`, with the same requests.
            found: rows and dot products.
            catalog: the snapshot that was searched.
        """
        counts = [len(each.rows) for each in found]
        B, K = len(found), max(counts, default=0)
        rows_BK, dot_BK = np.zeros((B, K), np.int64), np.zeros((B, K), np.float32)
        for request, (each, count) in enumerate(zip(found, counts, strict=True)):
            rows_BK[request, :count], dot_BK[request, :count] = each.rows, each.scores
        item_BKW = torch.from_numpy(catalog.item_states(rows_BK.ravel())).float().view(B, K, -1)
        score_BK = self.ranker(user.result(), item_BKW, torch.from_numpy(dot_BK)).numpy()
        return [score_K[:count] for score_K, count in zip(score_BK, counts, strict=True)]

    @torch.inference_mode()
    def _user_state(self, users: Sequence[EncodedUser]) -> Any:
        return self.ranker.user_state(histories_of(users))


def histories_of(users: Sequence[EncodedUser]) -> Histories:
    """Return what re-rankers read of some users."""
    return Histories(
        tokens_BTD=pad_sequence([torch.from_numpy(user.tokens_TD) for user in users], batch_first=True),
        length_B=torch.tensor([len(user.tokens_TD) for user in users]),
        user_BD=torch.from_numpy(np.stack([user.user_D for user in users])),
    )
