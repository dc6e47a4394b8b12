"""Head of a call: what its request headers say."""

import re
from base64 import b64decode
from binascii import Error as Base64Error
from dataclasses import dataclass
from functools import lru_cache

from rf_serving.front.faults import ErrorCode, StreamFault
from rf_serving.front.header_decoder import Headers

ENCODINGS = ("identity", "deflate", "gzip")
"""Compressions of messages."""
_UNITS = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}
_TIMEOUT = re.compile(r"([0-9]{1,8})([HMSmun])")
_NAME = re.compile(rb"[0-9a-z!#$%&'*+.^_`|~-]+")
_PSEUDO = frozenset({b":method", b":scheme", b":path", b":authority"})
_OF_CONNECTIONS = frozenset({b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"})
_OF_PROTOCOL = frozenset(
    {"te", "content-type", "content-length", "grpc-timeout", "grpc-encoding", "grpc-accept-encoding"}
)


@dataclass(frozen=True, kw_only=True, slots=True)
class RequestHead:
    """Content of the request headers."""

    path: str
    metadata: tuple[tuple[str, str | bytes], ...] = ()
    """Of the caller; what the protocol itself uses is left out."""
    timeout: float | None = None
    """Seconds that the caller waits; None: it has not said."""
    encoding: str = "identity"
    """Compression of the messages that say they are compressed."""
    content_length: int | None = None
    http_status: int | None = None
    """Answer to what is no gRPC; None: it is."""


def read_head(headers: Headers) -> RequestHead:
    """Return the head of a call.

    Raises:
        StreamFault: the headers are not those of a request (RFC 9113, section 8.2 and 8.3).
    """
    pseudo: dict[bytes, str] = {}
    metadata: list[tuple[str, str | bytes]] = []
    protocol: dict[str, str] = {}
    for name, value in headers:
        if name[:1] == b":":
            if name not in _PSEUDO or name in pseudo or metadata or protocol:
                raise _malformed(f"the pseudo-header {name!r}")
            pseudo[name] = _text(name, value)
            continue
        known, text = _name(name) if len(name) <= 64 else _checked_name(name), _text(name, value)
        if known in _OF_PROTOCOL:
            if known == "te" and text != "trailers":
                raise _malformed("te")
            protocol[known] = text
        elif known.endswith("-bin"):
            metadata += ((known, _binary(each.strip())) for each in text.split(","))
        else:
            metadata.append((known, text))
    if not pseudo.get(b":path") or b":method" not in pseudo or b":scheme" not in pseudo:
        raise _malformed("a pseudo-header is missing")
    length = protocol.get("content-length")
    if length is not None and not (length.isdecimal() and len(length) < 16):
        raise _malformed("content-length")
    return RequestHead(
        path=pseudo[b":path"],
        metadata=tuple(metadata),
        timeout=_timeout(protocol.get("grpc-timeout")),
        encoding=protocol.get("grpc-encoding", "identity"),
        content_length=None if length is None else int(length),
        http_status=_http_status(pseudo[b":method"], protocol.get("content-type", "")),
    )


def check_trailers(headers: Headers) -> None:
    """Check the headers after a request's body.

    Raises:
        StreamFault: one has no place there.
    """
    for name, value in headers:
        _text(_checked_name(name).encode(), value)


def _http_status(method: str, content_type: str) -> int | None:
    if method != "POST":
        return 405
    kind = content_type.lower()
    return None if kind == "application/grpc" or kind.startswith(("application/grpc+", "application/grpc;")) else 415


def _timeout(text: str | None) -> float | None:
    if text is None:
        return None
    found = _TIMEOUT.fullmatch(text)
    if found is None:
        raise _malformed("grpc-timeout")
    return int(found[1]) * _UNITS[found[2]]


def _checked_name(name: bytes) -> str:
    if not _NAME.fullmatch(name) or name in _OF_CONNECTIONS:
        raise _malformed(f"the header {name[:64]!r}")
    return name.decode("ascii")


_name = lru_cache(1024)(_checked_name)


def _text(name: bytes, value: bytes) -> str:
    try:
        text = value.decode("ascii")
    except UnicodeDecodeError:
        text = "\n"
    if not text.isprintable():
        raise _malformed(f"the value of {name[:64]!r}")
    return text


def _binary(text: str) -> bytes:
    try:
        return b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (Base64Error, ValueError) as error:
        raise _malformed("binary metadata") from error


def _malformed(what: str) -> StreamFault:
    return StreamFault(ErrorCode.PROTOCOL_ERROR, what)
