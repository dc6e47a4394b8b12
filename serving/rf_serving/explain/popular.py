"""Explanations of an answer by popularity."""

from collections.abc import Sequence

from rf_platform.features.spec import ITEM_ID_DOMAIN
from rf_protos.v1.explanation_pb2 import Explanation, FeatureCause, Reason
from rf_serving.explain.limits import MAX_ITEMS


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
