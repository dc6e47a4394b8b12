"""Replies of the gateway: statuses of gRPC as those of HTTP, and errors as JSON."""

import json
import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import grpc

HTTP_STATUSES: Mapping[str, int] = {
    "OK": 200,
    "CANCELLED": 499,
    "UNKNOWN": 500,
    "INVALID_ARGUMENT": 400,
    "DEADLINE_EXCEEDED": 504,
    "NOT_FOUND": 404,
    "ALREADY_EXISTS": 409,
    "PERMISSION_DENIED": 403,
    "RESOURCE_EXHAUSTED": 429,
    "FAILED_PRECONDITION": 400,
    "ABORTED": 409,
    "OUT_OF_RANGE": 400,
    "UNIMPLEMENTED": 501,
    "INTERNAL": 500,
    "UNAVAILABLE": 503,
    "DATA_LOSS": 500,
    "UNAUTHENTICATED": 401,
}
"""HTTP status of each status of gRPC, as ``google/rpc/code.proto`` has it."""
_NAMES = {status.value[0]: status.name for status in grpc.StatusCode}
_OF_FIELDS = ("INVALID_ARGUMENT", "FAILED_PRECONDITION")
_PART = r"\w+(?:\[(?:\d+|\"(?:[^\"\\]|\\.)*\")\])?"
_PATH = re.compile(rf"{_PART}(?:\.{_PART})*(?=: )")

Headers = list[tuple[bytes, bytes]]


class Reply(NamedTuple):
    """Reply to a request of HTTP."""

    status: int
    headers: Headers
    body: bytes


def name_of(status: int) -> str:
    """Return the name of a status of gRPC, given its number."""
    return _NAMES.get(status, "UNKNOWN")


def code_of(name: str) -> str:
    """Return a status as ``code`` has it: in lower case and, as in the Connect protocol, with one L in ``canceled``."""
    return "canceled" if name == "CANCELLED" else name.lower()


def error_body(status: str, message: str) -> bytes:
    """Return the body of an error.

    Args:
        status: of gRPC, such as ``INVALID_ARGUMENT``.
        message: for the caller; where it begins with the path of a field, ``field`` has that, too.
    """
    path = _PATH.match(message) if status in _OF_FIELDS else None
    said = {"code": code_of(status), "message": message, "field": None if path is None else path[0]}
    return json.dumps(said, ensure_ascii=False).encode("utf-8", "replace")


def json_reply(
    status: int, body: bytes, headers: Iterable[tuple[bytes, bytes]] = (), *, content_type: str = "application/json"
) -> Reply:
    """Return a reply with a body in JSON, or of another type."""
    length, kind = str(len(body)).encode(), content_type.encode()
    told = [(b"content-type", kind), (b"content-length", length), (b"cache-control", b"no-store")]
    return Reply(status, [*told, (b"x-content-type-options", b"nosniff"), *headers], body)


def error_reply(
    status: str, message: str, headers: Iterable[tuple[bytes, bytes]] = (), *, http_status: int | None = None
) -> Reply:
    """Return the reply to a request that is no call; ``http_status`` replaces the table's, where HTTP has a better one."""
    return json_reply(http_status or HTTP_STATUSES[status], error_body(status, message), headers)
