"""Requests over HTTP: messages as JSON, broken JSON, broken heads. The same seed gives the same requests."""

import json
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from google.protobuf import json_format
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from rf_fuzz.messages import random_message
from rf_fuzz.requests import SERVICES
from rf_fuzz.words import Words

_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1.5, 1e308, 2**31, 2**63, -(2**70), 10**400, "", "7", "x", "NaN", "\ud800", "\x00"),
    *([], {}, [[]], [None], {"": 1}, {"a": {"b": None}}, ["a", 1, {}], "9" * 5000),
)
_RAW = (
    b"",
    b"null",
    b"[]",
    b"7",
    b'"x"',
    b"{",
    b'{"k":',
    b"{}{}",
    b"\xff\xfe{}",
    b'{"k":NaN}',
    b'{"k":1,"k":2}',
    b"[" * 20_000,
)
_HEADS: tuple[tuple[str, str], ...] = (
    *(
        ("content-type", kind)
        for kind in ("", "text/plain", "application/grpc", "application/proto", "application/json; x")
    ),
    *(("content-encoding", "gzip"), ("connect-timeout-ms", "x"), ("connect-timeout-ms", "1"), ("x-request-id", "a b")),
    *(
        ("authorization", "Bearer nobody"),
        ("authorization", "é"),
        ("host", ""),
        ("host", "evil.example"),
        ("x-long", "y" * 9000),
    ),
    *(
        ("expect", "100-continue"),
        ("upgrade", "h2c"),
        ("content-length", "x"),
        ("transfer-encoding", "chunked"),
        ("a b", "c"),
    ),
)


@dataclass(frozen=True, kw_only=True)
class JsonRequest:
    """One request."""

    number: int
    """With the seed, all that is needed to make it again."""
    verb: str
    path: str
    kind: str
    """How it was made."""
    headers: tuple[tuple[str, str], ...]
    body: bytes

    @property
    def wire(self) -> bytes:
        """Bytes that are sent."""
        given = dict(self.headers)
        headers = {"host": "localhost", "content-type": "application/json", "content-length": str(len(self.body))}
        headers |= {"connection": "close", **given}
        lines = [f"{self.verb} {self.path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
        return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + self.body


Make = Callable[[random.Random, type[Message], Words], bytes]


def json_requests(
    seed: int, count: int, words: Words, services: Sequence[ServiceDescriptor] = SERVICES
) -> Iterator[JsonRequest]:
    """Yield requests to all methods in turn.

    Args:
        seed: of everything.
        count: how many.
        words: what the server knows.
        services: of the methods that are called.
    """
    methods = [method for service in services for method in service.methods]
    for number in range(count):
        rng = random.Random(f"json/{seed}/{number}")
        method = methods[number % len(methods)]
        made = rng.choice(list(_MAKERS))
        path = f"/{method.containing_service.full_name}/{method.name}"
        odd = rng.random() < 0.08
        yield JsonRequest(
            number=number,
            verb=rng.choice(("GET", "PUT", "HEAD", "OPTIONS", "DELETE")) if rng.random() < 0.02 else "POST",
            path=rng.choice(("/", path[:-1], f"{path}/", f"{path}?a=%zz", "/../../etc/passwd", "/%00", "//"))
            if odd
            else path,
            kind=made,
            headers=(rng.choice(_HEADS),) if rng.random() < 0.15 else (),
            body=_MAKERS[made](rng, GetMessageClass(method.input_type), words),
        )


def _object(rng: random.Random, kind: type[Message], words: Words) -> dict[str, Any]:
    message = random_message(kind, rng, words)
    return json_format.MessageToDict(message, preserving_proto_field_name=rng.random() < 0.5)


def _dumped(value: Any) -> bytes:
    return json.dumps(value).encode()


def _well_formed(rng: random.Random, kind: type[Message], words: Words) -> bytes:
    return _dumped(_object(rng, kind, words))


def _replaced(rng: random.Random, kind: type[Message], words: Words) -> bytes:
    """Return an object in which one value, at any depth, is another one."""
    made: Any = _object(rng, kind, words)
    inner: Any = made
    key: Any = rng.choice([field.json_name for field in kind.DESCRIPTOR.fields] or ["x"])
    while True:
        if isinstance(inner, dict) and inner and rng.random() < 0.9:
            key = rng.choice(list(inner))
        following = inner[key] if (isinstance(inner, list) or key in inner) else None
        if not isinstance(following, dict | list) or not following or rng.random() < 0.3:
            break
        inner = following
        key = rng.randrange(len(inner)) if isinstance(inner, list) else rng.choice(list(inner))
    inner[key] = rng.choice(_VALUES)
    return _dumped(made)


def _unknown(rng: random.Random, kind: type[Message], words: Words) -> bytes:
    return _dumped({**_object(rng, kind, words), rng.choice(("x", "itemID", "", "a b", "é", "__proto__")): 1})


def _flipped(rng: random.Random, kind: type[Message], words: Words) -> bytes:
    body = bytearray(_well_formed(rng, kind, words))
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(body))
        body[at : at + rng.choice((0, 1, 3))] = rng.choice(
            (b"\x00", b'"', b"}", b"]", b"\\", b"\xff", b"1e9", b",", b"")
        )
        body = body or bytearray(b" ")
    return bytes(body)


def _cut(rng: random.Random, kind: type[Message], words: Words) -> bytes:
    body = _well_formed(rng, kind, words)
    return body[: rng.randrange(len(body))]


def _deep(rng: random.Random, kind: type[Message], words: Words) -> bytes:
    """Return a field with more levels than any message, of itself where it can be."""
    field = rng.choice([field.json_name for field in kind.DESCRIPTOR.fields] or ["x"])
    levels = rng.choice((50, 110, 900, 5000))
    if rng.random() < 0.5:
        return b'{"%s":' % field.encode() * levels + b"1" + b"}" * levels
    predicate = b'{"any":[' * levels + b"{}" + b"]}" * levels
    return b'{"filter":{"where":[%s]}}' % predicate


def _raw(rng: random.Random, kind: type[Message], words: Words) -> bytes:
    return rng.choice(_RAW) if rng.random() < 0.8 else rng.randbytes(rng.randrange(300))


_MAKERS: dict[str, Make] = {
    "well-formed": _well_formed,
    "replaced": _replaced,
    "unknown field": _unknown,
    "flipped": _flipped,
    "cut": _cut,
    "deep": _deep,
    "raw": _raw,
}
