"""Statuses that calls are answered with beside OK, and the one table of those that each method has.

The server answers with no other: an error of another status is INTERNAL. The comments of the ``.proto`` files and the table in
``docs/serving.md`` are generated from this (``infra/check_contracts.py``, ``infra/check_docs.py``).
"""

from collections.abc import Mapping
from typing import NamedTuple


class Meaning(NamedTuple):
    """Meaning of a status for callers."""

    when: str
    remedy: str


STATUSES: Mapping[str, Meaning] = {
    "INVALID_ARGUMENT": Meaning(
        "a field is wrong; the message begins with its path, such as `session.history[3].item_id: `. Or there is no message",
        "correct the request; do not retry",
    ),
    "FAILED_PRECONDITION": Meaning(
        "`rerank` asks for a re-ranker, and the bundle has none", "leave it to the deployment"
    ),
    "UNAUTHENTICATED": Meaning("the server wants a token, and there is none, or another one", "send a token"),
    "PERMISSION_DENIED": Meaning("the token's role is not enough", "use a token of the role that the method needs"),
    "RESOURCE_EXHAUSTED": Meaning(
        "the server has more to do than it can, or the message is too large",
        "retry later or elsewhere, as `grpc-retry-pushback-ms` says; send smaller messages",
    ),
    "CANCELLED": Meaning("the server has so much to do that it cannot even refuse", "retry later or elsewhere"),
    "DEADLINE_EXCEEDED": Meaning(
        "the caller's deadline, or the server's, has passed; or the message did not come in time", "allow more time"
    ),
    "UNAVAILABLE": Meaning(
        "a store behind the server cannot be used, or the server is draining", "retry, elsewhere if possible"
    ),
    "DATA_LOSS": Meaning(
        "the arrays of a user's stored history differ in length", "load them again with `rf features materialize`"
    ),
    "INTERNAL": Meaning("a bug; the server's log has the details under the request id", "report it"),
}
"""Meaning of each status, in the order of the table."""

_ANY = tuple(name for name in STATUSES if name not in ("FAILED_PRECONDITION", "DATA_LOSS"))
METHOD_STATUSES: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "RetrievalService": {"Retrieve": tuple(STATUSES)},
    "CatalogService": {"UpsertItems": _ANY, "DeleteItems": _ANY, "GetItems": _ANY},
    "FeedbackService": {"RecordEvents": _ANY},
    "DeploymentService": {"GetDeployment": _ANY},
}
"""Statuses of each method, by service and method."""
