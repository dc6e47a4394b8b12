"""Messages of gRPC: a length, a flag, and bytes that may be compressed."""

import zlib
from enum import Enum
from typing import NamedTuple

PREFIX_BYTES = 5
"""The flag, and the length in four bytes."""
_WINDOW_BITS = {"gzip": 31, "deflate": 15}


class Lack(Enum):
    """Reason why there is no message."""

    ENDED = "the call ended without a message"
    LATE = "it did not come in time"


class Packed(NamedTuple):
    """A message that has come, and may be compressed: it is inflated only where it is wanted."""

    flag: int
    """Its first byte."""
    body: bytes
    """Bytes behind the length."""


class MessageFaultError(Exception):
    """A message cannot be used: answered with a status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message


def framed(message: bytes) -> bytes:
    """Return a message as it travels, not compressed."""
    return b"\0" + len(message).to_bytes(4, "big") + message


def unpacked(packed: Packed, encoding: str, most: int) -> bytes:
    """Return a message that has come.

    Args:
        packed: the message.
        encoding: the call's ``grpc-encoding``.
        most: bytes that it may have.

    Raises:
        MessageFaultError: the flag or the compressed bytes are wrong, or it is too large.
    """
    flag, body = packed
    if not flag:
        return body
    if flag != 1 or encoding not in _WINDOW_BITS:
        raise MessageFaultError(13, "the message says that it is compressed, and the call does not say how")
    inflate = zlib.decompressobj(_WINDOW_BITS[encoding])
    try:
        message = inflate.decompress(body, most + 1)
    except zlib.error as error:
        raise MessageFaultError(13, f"the message is no {encoding}: {error}") from error
    if len(message) > most:
        raise too_large(len(message), most, "at least ")
    if not inflate.eof:
        raise MessageFaultError(13, f"the message is no {encoding}: it ends too early")
    return message


def too_large(length: int, most: int, at_least: str = "") -> MessageFaultError:
    """Return what is said of a message that is too large, in gRPC's words."""
    return MessageFaultError(8, f"SERVER: Received message larger than max ({at_least}{length} vs. {most})")
