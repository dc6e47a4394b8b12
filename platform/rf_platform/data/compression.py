"""Compressed files, told by their content: their names are often wrong once a browser or a copy has unpacked them."""

import bz2
import gzip
import lzma
import zipfile
import zlib
from io import BufferedReader
from typing import IO, Any

import pyarrow as pa

from rf_platform.errors import DataError

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
