"""Header blocks of replies: literals that touch no table, so that every block stands for itself."""

from base64 import b64encode
from collections.abc import Iterable
from functools import lru_cache
from urllib.parse import quote

Metadata = Iterable[tuple[str, str | bytes]]
"""Of gRPC: names that end in ``-bin`` have bytes."""

_SAFE = "".join(map(chr, range(0x20, 0x7F))).replace("%", "")
_STATUS_200 = b"\x88"  # :status 200 in the static table
_CONTENT_TYPE, _STATUS = 31, 8  # names in the static table
NO_TABLE = b"\x20"
"""Begins the first block after the other end has made its table smaller."""


def _length(number: int, most: int, first: int) -> bytes:
    if number < most:
        return bytes((first | number,))
    found, number = bytearray((first | most,)), number - most
    while number >= 0x80:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    found.append(number)
    return bytes(found)


def literal(name: bytes, value: bytes) -> bytes:
    """Return a header as it is, not to be indexed."""
    return b"\x00" + _length(len(name), 0x7F, 0) + name + _length(len(value), 0x7F, 0) + value


def _known(index: int, value: bytes) -> bytes:
    return _length(index, 0x0F, 0) + _length(len(value), 0x7F, 0) + value


RESPONSE = (
    _STATUS_200
    + _known(_CONTENT_TYPE, b"application/grpc")
    + literal(b"grpc-accept-encoding", b"identity, deflate, gzip")
)
"""Head of every reply."""
OK = literal(b"grpc-status", b"0")
_named = lru_cache(256)(lambda name: literal(name.encode("ascii"), b"")[:-1])


def metadata_block(metadata: Metadata) -> bytes:
    """Return metadata as headers; bytes as base64."""
    found: list[bytes] = []
    for name, value in metadata:
        text = b64encode(value).rstrip(b"=") if isinstance(value, bytes) else value.encode("ascii", "replace")
        found += (_named(name), _length(len(text), 0x7F, 0), text)
    return b"".join(found)


def trailer_block(status: int, message: str, metadata: Metadata) -> bytes:
    """Return the trailers of a reply; the message is percent-encoded."""
    block = literal(b"grpc-status", b"%d" % status) if status else OK
    if message:
        block += literal(b"grpc-message", quote(message, safe=_SAFE).encode("ascii"))
    return block + metadata_block(metadata) if metadata else block


def refusal_block(http_status: int, headers: Iterable[tuple[bytes, bytes]] = ()) -> bytes:
    """Return the head of a reply to what is no gRPC."""
    return _known(_STATUS, b"%d" % http_status) + b"".join(literal(name, value) for name, value in headers)
