"""A text file as a stream of valid UTF-8 bytes."""

import codecs
import gzip
import io
from collections.abc import Callable
from pathlib import Path

from rf_platform.errors import ConfigError

UNDECODABLE = "\ufdd0"
"""Stands for bytes that the file's encoding does not know: a code point that Unicode keeps out of text."""


def _mark(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError)
    return UNDECODABLE, error.end


codecs.register_error("rf_mark_undecodable", _mark)


class TextStream(io.RawIOBase):
    """Reads a file block by block, unpacks gzip, and re-encodes to UTF-8.

    Bytes that the encoding does not know become :data:`UNDECODABLE`, so that a bad row can be named instead of the whole file
    being refused. A byte order mark and empty lines at the top are dropped.
    """

    def __init__(self, path: Path, encoding: str, quote: str | None, consumed: Callable[[int], None]) -> None:
        """Open ``path``; ``consumed`` is told how many bytes of the file were read since the last call.

        Raises:
            ConfigError: Python knows no such encoding.
        """
        try:
            b"x".decode(encoding, "replace")  # refuses codecs that are not of text, such as base64
            self._decoder = codecs.getincrementaldecoder(encoding)("rf_mark_undecodable")
        except LookupError as error:
            raise ConfigError(
                f"unknown encoding {encoding!r} for {path.name}; examples: utf-8, latin-1, cp1252"
            ) from error
        self._file = path.open("rb")
        self._bytes: io.BufferedIOBase = gzip.GzipFile(fileobj=self._file) if path.suffix == ".gz" else self._file
        self._quote = quote
        self._consumed, self._position = consumed, 0
        self._at_start, self._ended = True, False
        self._rest = b""
        self.undecodable = False
        """Some bytes were not text in the file's encoding."""
        self.open_quote = False
        """The quote characters read so far do not come in pairs."""

    def readable(self) -> bool:
        """Return True."""
        return True

    def read(self, size: int = -1) -> bytes:
        """Return at most ``size`` bytes of UTF-8, none at the end of the file."""
        while not self._ended and (size < 0 or len(self._rest) < size):
            self._rest += self._block(1 << 20)
        taken, self._rest = (self._rest, b"") if size < 0 else (self._rest[:size], self._rest[size:])
        return taken

    def _block(self, size: int) -> bytes:
        raw = self._bytes.read(size)
        self._ended = not raw
        self._consumed(self._file.tell() - self._position)
        self._position = self._file.tell()
        text = self._decoder.decode(raw, final=self._ended)
        if self._at_start and text:
            text = text.removeprefix("\ufeff").lstrip("\r\n")
            self._at_start = not text
        self.undecodable = self.undecodable or UNDECODABLE in text
        if self._quote is not None and text.count(self._quote) % 2:
            self.open_quote = not self.open_quote
        return text.encode()

    def close(self) -> None:
        """Close the file."""
        self._bytes.close()
        self._file.close()
        super().close()
