"""Contract of the services: roles and statuses of their methods, and what callers learn of errors.

The server enforces both tables: an error of a status that its method lacks is INTERNAL. The comments of the ``.proto`` files and
the tables in ``docs/operations.md`` and ``docs/serving.md`` are generated from them (``infra/check_contracts.py``,
``infra/check_docs.py``). What callers are told never names files, hosts or users of the server.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, NamedTuple

from google.protobuf.descriptor import ServiceDescriptor

from rf_platform.errors import RfError
from rf_serving.server.quick_calls import QuickMethod


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
    "RetrievalService": {"Retrieve": tuple(STATUSES), "SimilarItems": _ANY},
    "CatalogService": {"UpsertItems": _ANY, "DeleteItems": _ANY, "GetItems": _ANY, "ListItems": _ANY},
    "FeedbackService": {"RecordEvents": _ANY},
    "DeploymentService": {"GetDeployment": _ANY},
}
"""Statuses of each method, by service and method."""


class Role(IntEnum):
    """Permission of a caller; each role includes the ones before it."""

    READ = 1
    """Ask for items, and look at the catalog."""
    WRITE = 2
    """Also change the catalog and record events."""
    ADMIN = 3
    """Everything."""


METHOD_ROLES: Mapping[str, Mapping[str, Role]] = {
    "RetrievalService": {"Retrieve": Role.READ, "SimilarItems": Role.READ},
    "CatalogService": {
        "UpsertItems": Role.WRITE,
        "DeleteItems": Role.WRITE,
        "GetItems": Role.READ,
        "ListItems": Role.READ,
    },
    "FeedbackService": {"RecordEvents": Role.WRITE},
    "DeploymentService": {"GetDeployment": Role.ADMIN},
}
"""Role that each method needs, by service and method; a method that is not listed cannot be served."""

REFLECTION_ROLE = Role.READ
"""Role that gRPC reflection needs, if there are tokens."""


@dataclass(frozen=True, kw_only=True)
class Service:
    """A servicer that was built, ready to be added to a server."""

    descriptor: ServiceDescriptor
    """The service in its ``.proto`` file: ``catalog_pb2.DESCRIPTOR.services_by_name["CatalogService"]``."""
    servicer: Any
    """Answers the calls with coroutines; raises :class:`~rf_platform.errors.RfError` for what is not possible."""
    add: Callable[[Any, Any], None]
    """The generated function that adds the servicer to a server."""
    quick: Mapping[str, QuickMethod] = field(default_factory=dict)
    """Answers messages of a method without a task, by the method's name."""

    def __post_init__(self) -> None:
        """Make sure that every method has a role: nothing is open by omission."""
        methods = {method.name for method in self.descriptor.methods}
        assert set(self.roles) == methods, f"{self.name}: roles for {sorted(self.roles)}, methods {sorted(methods)}"

    @property
    def roles(self) -> Mapping[str, Role]:
        """Role that each method needs, by the method's name."""
        return METHOD_ROLES.get(self.descriptor.name, {})

    @property
    def name(self) -> str:
        """Full name, such as ``retrievalformer.v1.RetrievalService``."""
        return str(self.descriptor.full_name)


INTERNAL = "internal error; the server's log has it under the request id"
_GENERAL = {
    "UNAVAILABLE": "a store behind the server cannot be used at the moment; try again, the server's log has the cause under the "
    "request id",
    "DATA_LOSS": "what is stored for this request is damaged; the server's log has the details under the request id",
    "FAILED_PRECONDITION": "the server is not configured for this; its log has the details under the request id",
    "NOT_FOUND": "what the request needs is not there; the server's log has the details under the request id",
}
_LONGEST = 1000  # messages travel in a header, and headers have a limit
_URL = re.compile(r"\b[a-z][a-z0-9+.-]*://\S+", re.IGNORECASE)
_PATH = re.compile(r"(?<![\w.…/])/(?:[^\s'\",;:()/]+/)*([^\s'\",;:()/]+)")


def told(error: RfError) -> str:
    """Return the message of an error for callers: its own if it is meant for them, or what its status means."""
    message = str(error) if error.told else _GENERAL.get(error.grpc_status, INTERNAL)
    return message if len(message) <= _LONGEST else f"{message[:_LONGEST]}…"


def without_places(text: str) -> str:
    """Return a text with the last part of every absolute path only, and without addresses of databases."""
    return _PATH.sub(r"…/\1", _URL.sub("…", text))
