"""Requests on the wire: well-formed ones, broken ones, and noise. The same seed gives the same requests."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from rf_fuzz.messages import random_message
from rf_fuzz.words import Words
from rf_protos.v1 import catalog_pb2, deployment_pb2, feedback_pb2, retrieval_pb2

SERVICES: tuple[ServiceDescriptor, ...] = tuple(
    service
    for file in (retrieval_pb2, catalog_pb2, feedback_pb2, deployment_pb2)
    for service in file.DESCRIPTOR.services_by_name.values()
)
_NOISE_BYTES = 400
_LONG_METADATA = 3000


@dataclass(frozen=True, kw_only=True)
class WireRequest:
    """One request."""

    number: int
    """With the seed, all that is needed to make it again."""
    path: str
    """Of the method."""
    kind: str
    """How it was made."""
    body: bytes
    metadata: tuple[tuple[str, str | bytes], ...]
    timeout: float | None
    """A deadline that may be too short; None: ample time."""


def requests(
    seed: int, count: int, words: Words, services: Sequence[ServiceDescriptor] = SERVICES
) -> Iterator[WireRequest]:
    """Yield requests to all methods in turn.

    Args:
        seed: of everything.
        count: how many.
        words: what the server knows.
        services: whose methods are called.
    """
    methods = [method for service in services for method in service.methods]
    kinds = [GetMessageClass(method.input_type) for method in methods]
    for number in range(count):
        rng = random.Random(f"{seed}/{number}")
        place = number % len(methods)
        made = rng.choice(list(_MAKERS))
        body = _MAKERS[made](rng, kinds, place, words)
        service = methods[place].containing_service
        yield WireRequest(
            number=number,
            path=f"/{service.full_name}/{methods[place].name}",
            kind=made,
            body=body,
            metadata=_metadata(rng),
            timeout=rng.uniform(0.0005, 0.01) if rng.random() < 0.03 else None,
        )


def _well_formed(rng: random.Random, kinds: Sequence[type[Message]], place: int, words: Words) -> bytes:
    return random_message(kinds[place], rng, words).SerializeToString()


def _flipped(rng: random.Random, kinds: Sequence[type[Message]], place: int, words: Words) -> bytes:
    """Return a message with some bytes changed, cut out, put in, or repeated."""
    body = bytearray(_well_formed(rng, kinds, place, words))
    for _ in range(rng.randint(1, 6)):
        if not body:
            body += rng.randbytes(3)
        at = rng.randrange(len(body))
        match rng.randrange(5):
            case 0:
                body[at] ^= 1 << rng.randrange(8)
            case 1:
                body[at] = rng.choice((0, 0x7F, 0x80, 0xFF))
            case 2:
                del body[at : at + rng.randint(1, 8)]
            case 3:
                body[at:at] = rng.randbytes(rng.randint(1, 8))
            case 4:
                body[at:at] = body[at : at + 20]
    return bytes(body)


def _cut(rng: random.Random, kinds: Sequence[type[Message]], place: int, words: Words) -> bytes:
    body = _well_formed(rng, kinds, place, words)
    return body[: rng.randint(0, len(body))]


def _of_another_method(rng: random.Random, kinds: Sequence[type[Message]], place: int, words: Words) -> bytes:
    return _well_formed(rng, kinds, rng.randrange(len(kinds)), words)


def _joined(rng: random.Random, kinds: Sequence[type[Message]], place: int, words: Words) -> bytes:
    """Return two messages in a row, which is one message with its fields merged."""
    return _well_formed(rng, kinds, place, words) + _well_formed(rng, kinds, place, words)


def _wrong_text(rng: random.Random, kinds: Sequence[type[Message]], place: int, words: Words) -> bytes:
    """Return a message whose first fields hold bytes that are no UTF-8."""
    bad = rng.choice((b"\xff", b"\xc3\x28", b"\xed\xa0\x80", b"\xf8\x88\x80\x80\x80", b"ok\x80"))
    field = rng.randint(1, 7)
    return _well_formed(rng, kinds, place, words) + bytes([field << 3 | 2, len(bad)]) + bad


def _lying_length(rng: random.Random, kinds: Sequence[type[Message]], place: int, words: Words) -> bytes:
    """Return a field that says it is far longer than it is, or nested deeper than anybody would."""
    field = rng.randint(1, 7)
    if rng.random() < 0.5:
        return (
            bytes([field << 3 | 2])
            + rng.choice((b"\xff\xff\xff\xff\x07", b"\x80\x80\x80\x80\x08", b"\xff" * 10))
            + b"abc"
        )
    body = b""
    for _ in range(rng.choice((20, 90, 110, 500))):
        body = bytes([field << 3 | 2]) + _varint(len(body)) + body
    return body


def _noise(rng: random.Random, kinds: Sequence[type[Message]], place: int, words: Words) -> bytes:
    return rng.randbytes(rng.randrange(_NOISE_BYTES))


_MAKERS = {
    "well-formed": _well_formed,
    "flipped": _flipped,
    "cut": _cut,
    "of another method": _of_another_method,
    "joined": _joined,
    "wrong text": _wrong_text,
    "lying length": _lying_length,
    "noise": _noise,
}


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def _metadata(rng: random.Random) -> tuple[tuple[str, str | bytes], ...]:
    if rng.random() < 0.8:
        return ()
    return rng.choice(
        (
            (("x-request-id", ""),),
            (("x-request-id", "a b  c"),),
            (("x-request-id", "i" * 129),),
            (("x-request-id", "one"), ("x-request-id", "two")),
            (("authorization", "Bearer nobody"),),
            (("authorization", "Bearer"),),
            (("traceparent", "00-zz-zz-zz"),),
            (("traceparent", f"00-{rng.getrandbits(128):032x}-{rng.getrandbits(64):016x}-01"),),
            (("some-bin", rng.randbytes(50)),),
            (("x-long", "y" * _LONG_METADATA),),
        )
    )
