"""Replies of ``Retrieve`` as bytes.

A message is any concatenation of its fields, so what all replies of a batch have in common is serialised once, and the items of
each are written in front of it: a message object for every item takes ten times as long.
"""

from collections.abc import Iterable, Mapping
from functools import cache
from struct import pack

from rf_protos.v1.retrieval_pb2 import RetrieveResponse, ScoredItem, StageTiming

_DOUBLE, _LENGTH, _FLOAT = 1, 2, 5


def _tag(number: int, wire_type: int) -> bytes:
    return bytes([number << 3 | wire_type])  # one byte up to field 15


_FIELDS = RetrieveResponse.DESCRIPTOR.fields_by_name
_ITEM = ScoredItem.DESCRIPTOR.fields_by_name
_ITEMS = _tag(_FIELDS["items"].number, _LENGTH)
_TIMINGS = _tag(_FIELDS["timings"].number, _LENGTH)
_MILLISECONDS = _tag(StageTiming.DESCRIPTOR.fields_by_name["milliseconds"].number, _DOUBLE)
_HISTORY = _tag(_FIELDS["history"].number, _LENGTH)
_ID = _tag(_ITEM["item_id"].number, _LENGTH)
_SCORE = _tag(_ITEM["score"].number, _FLOAT)
_SHORT = 128 - 7
"""Bytes of an id from which on a length takes two bytes."""
_SHORT_ITEM = _ITEMS + b"%c" + _ID + b"%c%b" + _SCORE + b"%b"


def items_bytes(ids: Iterable[bytes], scores: bytes) -> bytes:
    """Return the field ``items``.

    Args:
        ids: of the items, in UTF-8.
        scores: float32 of each, little-endian, one after the other.
    """
    parts: list[bytes] = []
    at = 0
    for each in ids:
        score, at = scores[at : at + 4], at + 4
        if (size := len(each)) < _SHORT:
            parts.append(_SHORT_ITEM % (size + 7, size, each, score))
        else:
            inner = b"".join((_ID, _varint(size), each, _SCORE, score))
            parts.append(b"".join((_ITEMS, _varint(len(inner)), inner)))
    return b"".join(parts)


def history_bytes(ids: Iterable[bytes]) -> bytes:
    """Return the field ``history``."""
    return b"".join(b"".join((_HISTORY, _varint(len(each)), each)) for each in ids)


def timings_bytes(seconds: Mapping[str, float]) -> bytes:
    """Return the field ``timings``, in the order of the stages."""
    return b"".join(_stage(name) + pack("<d", 1000 * each) for name, each in seconds.items())


@cache
def _stage(name: str) -> bytes:
    """Return a timing up to its number."""
    inner = StageTiming(stage=name).SerializeToString() + _MILLISECONDS
    return b"".join((_TIMINGS, _varint(len(inner) + 8), inner))


def _varint(number: int) -> bytes:
    written = bytearray()
    while number > 127:
        written.append(number & 127 | 128)
        number >>= 7
    written.append(number)
    return bytes(written)
