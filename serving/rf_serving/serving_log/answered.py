"""An answer on its way into the serving log: references to what the request path has anyway, nothing computed."""

from typing import NamedTuple

from rf_platform.features.expiry import now_us
from rf_platform.features.spec import FeatureSpec
from rf_serving.retrieval.query import Answer, Query
from rf_serving.retrieval.quick_ranker import QuickAnswer
from rf_serving.retrieval.routing import Route, Routing


class Answered(NamedTuple):
    """An answer, with its request and the routing that chose its bundle."""

    request_id: str
    path: str
    """``quick``, ``full`` or ``degraded``."""
    spec: FeatureSpec
    query: Query
    answer: Answer | QuickAnswer
    split: str
    challenger: bool
    percent: float
    answered_us: int

    @classmethod
    def of(
        cls, request_id: str, path: str, routing: Routing, route: Route, query: Query, answer: Answer | QuickAnswer
    ) -> "Answered":
        """Put together what one record is made of."""
        split = routing.challenger is not None
        return cls(
            request_id,
            path,
            route.engine.bundle.spec,
            query,
            answer,
            routing.salt if split else "",
            split and route is routing.challenger,
            routing.percent if split else 0.0,
            now_us(),
        )
