"""Error messages for callers: never with files, hosts or users of the server."""

import re

from rf_platform.errors import RfError

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
