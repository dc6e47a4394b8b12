"""Details of an error for programs, beside its text: ``google.rpc.Status`` with the field that is wrong, and a limit."""

import re

import grpc
from google.protobuf import any_pb2
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2, status_pb2

from rf_platform.errors import TooManyError

STATUS_DETAILS = "grpc-status-details-bin"
"""Trailing metadata in which clients of all languages look for details."""
_FIELD = re.compile(r"^([a-z_]\w*(?:\.\w+|\[[^\]]*\])*): (.+)$", re.DOTALL)
_DOMAIN, _TOO_MANY, _MOST = "retrievalformer", "TOO_MANY", "most"


def status_details(code: grpc.StatusCode, text: str, error: BaseException | None = None) -> bytes | None:
    """Return the details of an error, serialised; None for one that names no field.

    Args:
        code: of the error; details are given for ``INVALID_ARGUMENT`` alone.
        text: its message, which begins with the path of the field, such as ``session.history[3].item_id: ``.
        error: the error; a :class:`~rf_platform.errors.TooManyError` tells its limit as ``google.rpc.ErrorInfo``.
    """
    if code is not grpc.StatusCode.INVALID_ARGUMENT or (found := _FIELD.match(text)) is None:
        return None
    violation = error_details_pb2.BadRequest.FieldViolation(field=found[1], description=found[2])
    details = [_packed(error_details_pb2.BadRequest(field_violations=[violation]))]
    if isinstance(error, TooManyError):
        limit = {_MOST: str(error.most)}
        details.append(_packed(error_details_pb2.ErrorInfo(reason=_TOO_MANY, domain=_DOMAIN, metadata=limit)))
    return bytes(status_pb2.Status(code=code.value[0], message=text, details=details).SerializeToString())


def told_limit(details: bytes) -> int | None:
    """Return how many a request may have, from the details of an error; None for one of another kind."""
    try:
        status = status_pb2.Status.FromString(details)
    except DecodeError:
        return None
    for each in status.details:
        info = error_details_pb2.ErrorInfo()
        if each.Unpack(info) and (info.domain, info.reason) == (_DOMAIN, _TOO_MANY):
            return int(info.metadata[_MOST])
    return None


def _packed(message: Message) -> any_pb2.Any:
    detail = any_pb2.Any()
    detail.Pack(message)
    return detail
