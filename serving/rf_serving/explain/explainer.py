"""Explanations of an answer by leave-one-out: the score of each item without each cause.

Shapes: K items, C causes.
"""

from collections.abc import Sequence
from math import inf
from time import perf_counter

import numpy as np
import numpy.typing as npt

from rf_platform.features.spec import ITEM_ID_DOMAIN
from rf_protos.v1.explanation_pb2 import Explanation, FeatureCause, HistoryEvent, Reason
from rf_serving.bundle.served import ServedBundle
from rf_serving.catalog.snapshot import CatalogSnapshot
from rf_serving.encoding import UserEncoder
from rf_serving.explain.item_causes import items_left_out
from rf_serving.explain.scoring import DotProduct, Reranked, Scoring, link_shares
from rf_serving.explain.user_causes import LeftOut, events_left_out, features_left_out, in_time, latest
from rf_serving.user_features.features import KnownFeatures
from rf_training.rerank.lime import Lime
from rf_training.rerank.ranker import Ranker

REASONS = 5
"""Events and, beside them, features that are named of an item: features of items often weigh more than any single event."""
MAX_ITEMS = 50
"""Items of an answer that are explained, the first ones. An item costs the item tower one more item per feature; more than these
are of no use to a reader."""
MAX_EVENTS = 50
"""Latest events of the history that are considered, as many as the shipped definitions keep in the online store. An event costs
as much as a request of the same user."""
ITEMS_AT_ONCE = 8
"""Items with features left out together; between two such groups the time is looked at."""


_NOISE = 1e-5
"""Least share of a score, or of 1, that is a reason: less is the rounding of float32 sums."""


class Explainer:
    """Explains the answers of one bundle. Safe from any thread."""

    def __init__(self, bundle: ServedBundle, encoder: UserEncoder) -> None:
        """Share the bundle's parts with its engine.

        Args:
            bundle: the bundle that answers.
            encoder: its encoder of requests.
        """
        self._spec, self._history = bundle.spec, bundle.model.config.max_history
        self._encoder = encoder

    def explain(
        self,
        known: KnownFeatures,
        catalog: CatalogSnapshot,
        rows_K: npt.NDArray[np.int64],
        ranker: Ranker | None = None,
        until: float = inf,
    ) -> list[Explanation]:
        """Return explanations of the first items of an answer.

        Args:
            known: features that the answer was computed from.
            catalog: snapshot that was searched.
            rows_K: the items in that snapshot, best first.
            ranker: what ordered them; None for the dot product.
            until: when to stop, by :func:`time.perf_counter`.

        Returns:
            Explanations in the order of the items: of at most :data:`MAX_ITEMS`, and of as many as were done in time.
        """
        rows_K = rows_K[:MAX_ITEMS]
        read, first = latest(known, self._history), max(0, len(known.rows) - self._history)
        scoring: Scoring = DotProduct(self._encoder) if ranker is None else Reranked(self._encoder, ranker)
        vectors_KD = catalog.vectors(rows_K)
        by_user = [*features_left_out(read, self._spec), *events_left_out(read, catalog, MAX_EVENTS, first)]
        causes = [each.cause for each in by_user]
        by_user_CK = np.empty((0, len(rows_K)), np.float32)
        if by_user:
            found_CK = in_time(LeftOut(scoring, read, vectors_KD, catalog), by_user, len(read.rows), until)
            if found_CK is None:
                return []
            by_user_CK = found_CK
        attention_TK = np.zeros((len(read.rows), len(rows_K)), np.float32)
        if isinstance(ranker, Lime) and not read.cold:
            attention_TK = link_shares(self._encoder, ranker, read, vectors_KD, catalog)
        explanations: list[Explanation] = []
        for start in range(0, len(rows_K), ITEMS_AT_ONCE):
            if perf_counter() >= until:
                break
            group = slice(start, start + ITEMS_AT_ONCE)
            items = items_left_out(catalog, rows_K[group])
            C, n = items.without_CKD.shape[:2]
            vectors = np.concatenate([items.whole_KD, items.without_CKD.reshape(C * n, -1)])
            scores = scoring([read], vectors, catalog).reshape(1 + C, n)
            contributions_CK = np.concatenate([by_user_CK[:, group], scores[:1] - scores[1:]])
            for k, contributions_C in enumerate(contributions_CK.T):
                reasons = _strongest([*causes, *items.causes], contributions_C, float(scores[0, k]))
                for reason in reasons:
                    if reason.HasField("event"):
                        reason.link_attention = float(attention_TK[reason.event.position - first, start + k])
                explanations.append(Explanation(reasons=reasons))
        return explanations


def _strongest(
    causes: Sequence[HistoryEvent | FeatureCause], contributions_C: npt.NDArray[np.float32], score: float
) -> list[Reason]:
    """Return the reasons of one item, strongest first: at most :data:`REASONS` events and as many features."""
    size_C = np.nan_to_num(np.abs(contributions_C))
    left = {HistoryEvent: REASONS, FeatureCause: REASONS}
    reasons: list[Reason] = []
    for place in np.argsort(-size_C, kind="stable").tolist():
        cause = causes[place]
        if size_C[place] > _NOISE * max(1.0, abs(score)) and left[type(cause)]:
            left[type(cause)] -= 1
            reasons.append(_reason(cause, float(contributions_C[place])))
    return reasons


def _reason(cause: HistoryEvent | FeatureCause, contribution: float) -> Reason:
    if isinstance(cause, HistoryEvent):
        return Reason(event=cause, contribution=contribution)
    return Reason(feature=cause, contribution=contribution)


def explain_popular(scores: Sequence[float]) -> list[Explanation]:
    """Explain the first items of an answer by popularity: without its identity an item has no count of choices.

    Args:
        scores: of the items, their share of all events of the training split.
    """
    identity = FeatureCause(side=FeatureCause.ITEM, name=ITEM_ID_DOMAIN)
    return [
        Explanation(
            reasons=[Reason(feature=identity, contribution=score)] if score else [],
        )
        for score in scores[:MAX_ITEMS]
    ]
