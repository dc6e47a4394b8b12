"""``--rerank``: what orders the items of an answer."""

from enum import StrEnum


class Order(StrEnum):
    """The names that commands have for orders; see :mod:`rf_serving.ranking.policy`."""

    NONE = "none"
    EXACT = "exact"
    LIME = "lime"


class DefaultOrder(StrEnum):
    """Default order of a deployment."""

    AUTO = "auto"
    NONE = "none"
    EXACT = "exact"
    LIME = "lime"
