"""Text file, compressed or not, as blocks of valid UTF-8 bytes; its content tells the compression, not its name."""

import bz2
import codecs
import gzip
import lzma
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from io import BufferedReader
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import pyarrow as pa

from rf_platform.errors import ConfigError, DataError
from rf_platform.sql import literal

SUFFIXES = (".gz", ".gzip", ".bz2", ".xz", ".lzma", ".zst", ".zstd", ".lz4", ".zip")
"""Ends of names that say how a file is compressed, not what it holds."""
DAMAGED = (OSError, EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, NotImplementedError, RuntimeError)
"""Errors from reading a damaged, cut or encrypted file."""
_OTHER = {
    b"PAR1": "a Parquet file: say `format: parquet`",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive: unpack it",
    b"Rar!": "a RAR archive: unpack it",
    b"\x1f\x9d": "compressed by `compress`: unpack it",
    b"\xd0\xcf\x11\xe0": "an Excel workbook: save it as CSV",
    b"SQLite format 3\0": "an SQLite database: export the table as CSV",
}
_SPREADSHEET = re.compile(r"\Asep=.\r?\n")
"""First line by which spreadsheets tell each other the delimiter."""
_TAR_MARK, _TAR_AT = b"ustar", 257


def unpacked(file: BufferedReader, name: str) -> IO[bytes]:
    """Return a stream of what a file holds, unpacked if it is compressed with gzip, bzip2, xz, zstd, lz4 or zip.

    Raises:
        DataError: the content is of another kind than text, or a zip archive has not exactly one member.
    """
    stream: Any = file
    start = file.peek(8)
    if start.startswith(b"\x1f\x8b"):
        stream = gzip.GzipFile(fileobj=file)
    elif start.startswith(b"BZh") and start[3:4].isdigit() and start[4:8] == b"1AY&":
        stream = bz2.BZ2File(file)  # closed by the caller, as all of these
    elif start.startswith((b"\xfd7zXZ\0", b"\x5d\0\0")):
        stream = lzma.LZMAFile(file)  # noqa: SIM115
    elif start.startswith(b"\x28\xb5\x2f\xfd"):
        stream = pa.CompressedInputStream(pa.PythonFile(file, "r"), "zstd")
    elif start.startswith(b"\x04\x22\x4d\x18"):
        stream = pa.CompressedInputStream(pa.PythonFile(file, "r"), "lz4")
    elif start.startswith(b"PK\x03\x04"):
        stream = _only_member(file, name)
    plain = BufferedReader(stream) if stream is not file and not isinstance(stream, pa.NativeFile) else stream
    _refuse_other(file if stream is file else plain, name)
    return plain


def hidden(path: str) -> bool:
    """Return whether a file of an archive or directory is none of its data: remains of systems and tools."""
    *directories, name = path.split("/")
    return (
        any(d in ("__MACOSX", "_temporary", "_delta_log") or (d.startswith(".") and d.strip(".")) for d in directories)
        or name.startswith((".", "_committed_", "_started_"))
        or name in ("_SUCCESS", "_metadata", "_common_metadata", "Thumbs.db", "desktop.ini")
    )


def _only_member(file: BufferedReader, name: str) -> IO[bytes]:
    archive = zipfile.ZipFile(file)
    members = [m for m in archive.namelist() if not m.endswith("/") and not hidden(m)]
    if "[Content_Types].xml" in members:
        raise DataError(f"{name} is an office document: save the table as CSV")
    if len(members) != 1:
        raise DataError(
            f"{name} is a zip archive of {len(members)} files; give it as PATH and name its files in the mapping, or unpack it"
        )
    return archive.open(members[0])


def _refuse_other(stream: Any, name: str) -> None:
    if not hasattr(stream, "peek"):
        return
    start = stream.peek(_TAR_AT + len(_TAR_MARK))
    what = next((said for mark, said in _OTHER.items() if start.startswith(mark)), None)
    if start[_TAR_AT : _TAR_AT + len(_TAR_MARK)] == _TAR_MARK:
        what = "a tar archive: unpack it"
    if what is not None:
        raise DataError(f"{name} is {what}")


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
    file being refused. A byte order mark tells the encoding and is dropped, as are empty lines and a line `sep=;` at the top.
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
                text = _SPREADSHEET.sub("", text.removeprefix("\ufeff").lstrip("\r\n")).lstrip("\r\n")
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
