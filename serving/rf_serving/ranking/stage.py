"""Stage "rerank": from the candidates of a request to the items of its answer, whatever orders them.

Shapes: B requests, K candidates.
"""

from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from rf_protos.v1.retrieval_pb2 import RERANK_EXACT, RERANK_LIME, RERANK_NONE, RERANK_UNSPECIFIED, Rerank
from rf_serving.bundle.served import ServedBundle
from rf_serving.catalog.snapshot import CatalogSnapshot
from rf_serving.encoding import EncodedUser
from rf_serving.index import Found
from rf_serving.ranking.lime import ReRanker
from rf_serving.ranking.policy import RerankPolicy


@dataclass(frozen=True, eq=False)
class Pending:
    """User side of the re-ranker for some requests, computed while the index is searched."""

    numbers: list[int]
    """The requests that the re-ranker orders."""
    user: "Future[Any]"


class Ordered(NamedTuple):
    """The items of an answer, best first."""

    found: Found
    rerank: "Rerank"
    """Order of the items."""


class SecondStage:
    """Orders what the search of one bundle finds."""

    def __init__(self, bundle: ServedBundle, reranking: RerankPolicy | None = None) -> None:
        self._name, self._reranking = bundle.name, reranking or RerankPolicy()
        self._reranker = None if bundle.ranker is None else ReRanker(bundle.ranker)
        self._by_default = self._reranking.order(RERANK_UNSPECIFIED, self._name, reranker=self._reranker is not None)

    def order_of(self, asked: "Rerank") -> "Rerank":
        """Return the order of a request's items, if there is a history.

        Args:
            asked: order that the request asks for.

        Raises:
            UnsupportedError: the request asks for a re-ranker, and the bundle has none.
        """
        if asked == RERANK_UNSPECIFIED:
            return self._by_default
        return self._reranking.order(asked, self._name, reranker=self._reranker is not None)

    def candidates(self, order: "Rerank", k: int, catalog: CatalogSnapshot) -> int:
        """Return how many items have to be found for ``k`` of them: no more where that would change nothing."""
        if order == RERANK_NONE or (order == RERANK_EXACT and catalog.base.index.exact):
            return k
        return max(k, self._reranking.candidates)

    def begin(self, users: Mapping[int, EncodedUser], orders: Mapping[int, "Rerank"]) -> Pending | None:
        """Start the part that does not depend on candidates; None if there is none."""
        numbers = [number for number in users if orders[number] == RERANK_LIME]
        if self._reranker is None or not numbers:
            return None
        return Pending(numbers, self._reranker.begin([users[number] for number in numbers]))

    def order(
        self,
        found: Mapping[int, Found],
        counts: Mapping[int, int],
        users: Mapping[int, EncodedUser],
        orders: Mapping[int, "Rerank"],
        pending: Pending | None,
        catalog: CatalogSnapshot,
    ) -> dict[int, Ordered]:
        """Return the items of each answer, by the number of its request.

        Args:
            found: candidates of each request.
            counts: items that each request asks for.
            users: of :meth:`UserEncoder.encode_users`.
            orders: of :meth:`order_of`.
            pending: of :meth:`begin`.
            catalog: the snapshot that was searched.
        """
        by_lime = {} if pending is None else self._by_lime(found, pending, catalog)
        ordered: dict[int, Ordered] = {}
        for number, each in found.items():
            k, order = counts[number], orders[number]
            if order == RERANK_LIME:
                ordered[number] = by_lime.get(number) or Ordered(each, RERANK_NONE)
            elif order == RERANK_EXACT:
                scores_K = catalog.vectors(each.rows) @ users[number].query_D
                ordered[number] = Ordered(_sorted(Found(each.rows, scores_K)), order)
            else:
                ordered[number] = Ordered(each, order)
            ordered[number] = _first(ordered[number], k)
        return ordered

    def _by_lime(self, found: Mapping[int, Found], pending: Pending, catalog: CatalogSnapshot) -> dict[int, Ordered]:
        """Return all candidates by the re-ranker's scores; without requests with scores that are no numbers."""
        assert self._reranker is not None
        candidates = [found[number] for number in pending.numbers]
        if not any(len(each.rows) for each in candidates):
            return {
                number: Ordered(each, RERANK_LIME) for number, each in zip(pending.numbers, candidates, strict=True)
            }
        scores = self._reranker.scores(pending.user, candidates, catalog)
        return {
            number: Ordered(_sorted(Found(each.rows, scores_K)), RERANK_LIME)
            for number, each, scores_K in zip(pending.numbers, candidates, scores, strict=True)
            if np.isfinite(scores_K).all()
        }


def _sorted(found: Found) -> Found:
    """Return what was found, best first; of equal scores, what the search had first."""
    order = np.argsort(-found.scores, kind="stable")
    return Found(rows=found.rows[order], scores=found.scores[order])


def _first(ordered: Ordered, k: int) -> Ordered:
    return Ordered(Found(rows=ordered.found.rows[:k], scores=ordered.found.scores[:k]), ordered.rerank)
