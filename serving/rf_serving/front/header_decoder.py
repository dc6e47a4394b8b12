"""Decoder of header blocks (RFC 7541), with bounds on its table, on a block and on the list that a block stands for.

`hpack.Decoder` takes five times as long for the short blocks of gRPC, and loses track of its table where a list is too long, so
that the connection has to end. The tables are that library's.
"""

from functools import lru_cache

from hpack.exceptions import HPACKDecodingError
from hpack.huffman_table import decode_huffman
from hpack.table import HeaderTable

from rf_serving.front.faults import ConnectionFault, ErrorCode

Headers = list[tuple[bytes, bytes]]

_STATIC: list[tuple[bytes, bytes]] = [(b"", b""), *((bytes(n), bytes(v)) for n, v in HeaderTable.STATIC_TABLE)]
_STATICS = len(_STATIC) - 1
_ENTRY_BYTES = 32
_CACHED_BYTES = 64
_LONGEST_NUMBER = 28  # bits after the prefix: more than any length here


def _huffman(text: bytes) -> bytes:
    return decode_huffman(text) or b""


_short_huffman = lru_cache(4096)(_huffman)


class HeaderDecoder:
    """Decodes the blocks of one connection in their order.

    Args:
        most_bytes: longest list, counted as the protocol does: names, values and 32 bytes for each.
        table_bytes: largest dynamic table.
    """

    def __init__(self, most_bytes: int, table_bytes: int = 4096) -> None:
        self._most, self._allowed, self._limit = most_bytes, table_bytes, table_bytes
        self._table: list[tuple[bytes, bytes]] = []
        self._size = 0
        self.changes = 0
        """Changes of the table: as long as it stays, a block means the same."""

    def decode(self, block: bytes) -> tuple[Headers, bool]:
        """Return the headers of a block, and whether the list is too long: then the rest is left out, the table is right.

        Raises:
            ConnectionFault: the block is none; the connection cannot go on.
        """
        try:
            return self._decode(block)
        except (IndexError, HPACKDecodingError) as error:
            raise ConnectionFault(ErrorCode.COMPRESSION_ERROR, "a header block that cannot be decoded") from error

    def _decode(self, block: bytes) -> tuple[Headers, bool]:
        found: Headers = []
        table, at, end, left = self._table, 0, len(block), self._most
        while at < end:
            first = block[at]
            at += 1
            if first & 0x80:
                number = first & 0x7F
                if number == 0x7F:
                    number, at = _number(block, at, number)
                header = _STATIC[number] if number <= _STATICS else table[_STATICS - number]
                if not number:
                    raise IndexError(number)
            elif first & 0x60 == 0x20:
                if found or left < self._most:
                    raise ConnectionFault(ErrorCode.COMPRESSION_ERROR, "a change of the table's size within a block")
                number = first & 0x1F
                if number == 0x1F:
                    number, at = _number(block, at, number)
                self._resize(number)
                continue
            else:
                keep = first & 0x40
                mask = 0x3F if keep else 0x0F
                number = first & mask
                if number == mask:
                    number, at = _number(block, at, number)
                if number:
                    name = (_STATIC[number] if number <= _STATICS else table[_STATICS - number])[0]
                else:
                    name, at = _text(block, at)
                value, at = _text(block, at)
                header = (name, value)
                if keep:
                    self._add(header)
            left -= len(header[0]) + len(header[1]) + _ENTRY_BYTES
            if left >= 0:
                found.append(header)
        return found, left < 0

    def _add(self, header: tuple[bytes, bytes]) -> None:
        self.changes += 1
        self._size += len(header[0]) + len(header[1]) + _ENTRY_BYTES
        self._table.append(header)
        self._evict()

    def _resize(self, limit: int) -> None:
        if limit > self._allowed:
            raise ConnectionFault(
                ErrorCode.COMPRESSION_ERROR, f"a table of {limit} bytes, where {self._allowed} are allowed"
            )
        self.changes += 1
        self._limit = limit
        self._evict()

    def _evict(self) -> None:
        gone, table = 0, self._table
        while self._size > self._limit:
            name, value = table[gone]
            self._size -= len(name) + len(value) + _ENTRY_BYTES
            gone += 1
        del table[:gone]


def _number(block: bytes, at: int, number: int) -> tuple[int, int]:
    shift = 0
    while True:
        byte = block[at]
        at += 1
        number += (byte & 0x7F) << shift
        if not byte & 0x80:
            return number, at
        shift += 7
        if shift > _LONGEST_NUMBER:
            raise IndexError(number)


def _text(block: bytes, at: int) -> tuple[bytes, int]:
    first = block[at]
    at += 1
    length = first & 0x7F
    if length == 0x7F:
        length, at = _number(block, at, length)
    text = block[at : at + length]
    if len(text) < length:
        raise IndexError(length)
    if first & 0x80:
        text = _short_huffman(text) if length <= _CACHED_BYTES else _huffman(text)
    return text, at + length
