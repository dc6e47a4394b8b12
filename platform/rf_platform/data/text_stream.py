"""A text file as blocks of valid UTF-8 bytes."""

import codecs
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from rf_platform.data.compression import DAMAGED, unpacked
from rf_platform.errors import ConfigError, DataError
from rf_platform.sql import literal

UNDECODABLE = "\ufdd0"
"""Stands before the hex digits of a byte that the file's encoding does not know: a code point that Unicode keeps out of text."""
_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",  # before UTF-16: it begins with that mark
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


def shown_bytes(text: str) -> str:
    """Return a text as people should see it: the bytes that its encoding does not know as ``\\x`` and their hex digits."""
    return text.replace(UNDECODABLE, "\\x")


def shown_bytes_sql(sql: str) -> str:
    """Return the SQL of :func:`shown_bytes`."""
    return f"replace({sql}, {literal(UNDECODABLE)}, {literal(shown_bytes(UNDECODABLE))})"


def _mark(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError)
    return "".join(f"{UNDECODABLE}{byte:02x}" for byte in error.object[error.start : error.end]), error.end


codecs.register_error("rf_mark_undecodable", _mark)


class TextStream:
    """Reads a file block by block, unpacks it, and re-encodes it to UTF-8.

    Bytes that the encoding does not know are marked by :data:`UNDECODABLE`, so that a bad row can be named instead of the whole
    file being refused. A byte order mark tells the encoding and is dropped, as are empty lines at the top.
    """

    def __init__(self, path: Path, name: str, encoding: str, consumed: Callable[[int], None]) -> None:
        """Open a file.

        Args:
            path: where it is.
            name: what messages call it.
            encoding: how it is written, unless a byte order mark says otherwise.
            consumed: told how many bytes of the file were read since the last call.

        Raises:
            ConfigError: Python knows no such encoding.
            DataError: the file cannot be read, or holds no text.
        """
        self._name, self._consumed, self._position = name, consumed, 0
        try:
            b"x".decode(encoding, "replace")  # refuses codecs that are not of text, such as base64
        except LookupError as error:
            raise ConfigError(f"unknown encoding {encoding!r} for {name}; examples: utf-8, latin-1, cp1252") from error
        with ExitStack() as undo:
            try:
                self._file = undo.enter_context(path.open("rb"))
                self._bytes = undo.enter_context(unpacked(self._file, name))
                self._first = self._bytes.read(4)
            except DAMAGED as error:
                raise DataError(f"{name} cannot be read: {error}") from error
            undo.pop_all()
        self._encoding = next((e for mark, e in _MARKS.items() if self._first.startswith(mark)), encoding)
        self.undecodable = False
        """Some bytes were not text in the file's encoding."""

    def blocks(self, size: int) -> Iterator[bytes]:
        """Return the text in blocks of about ``size`` bytes, cut anywhere.

        Raises:
            DataError: the file is damaged.
        """
        decoder = codecs.getincrementaldecoder(self._encoding)("rf_mark_undecodable")
        at_start, raw, ended = True, self._first, False
        while not ended:
            try:
                more = self._bytes.read(size)
            except DAMAGED as error:
                raise DataError(f"{self._name} cannot be read: {error}") from error
            ended = not more
            text = decoder.decode(raw + more, final=ended)
            raw = b""
            self._consumed(self._file.tell() - self._position)
            self._position = self._file.tell()
            if at_start:
                text = text.removeprefix("\ufeff").lstrip("\r\n")
                at_start = not text
                self._refuse_binary(text)
            self.undecodable = self.undecodable or UNDECODABLE in text
            if text:
                yield text.encode("utf-8", "replace")

    def _refuse_binary(self, text: str) -> None:
        if "\0" in text[:256]:
            raise DataError(
                f"{self._name} holds NUL characters where text is due; if it is UTF-16, say so: "
                f"`csv: {{encoding: utf-16-le}}` (or utf-16-be)"
            )

    def __enter__(self) -> "TextStream":
        """Return the stream."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Close the file."""
        self._bytes.close()
        self._file.close()
