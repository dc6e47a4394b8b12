"""Failures of what reads and writes files: DuckDB, Arrow, JSON, YAML, archives."""

import re
from typing import Any

from rf_platform.errors import ConfigError, CorruptError, DataError, NotFoundError, UnavailableError
from rf_platform.failures.failure import RESTORE, Failure
from rf_platform.failures.system import first_line, in_text

_KIND = re.compile(r"^[A-Z][A-Za-z ]* Error: ")
_SQL = re.compile(r"\s*(?:LINE \d+:|Error: query|\[SQL:).*", re.DOTALL)
_NO_MATCH = re.compile(r'No files found that match the pattern "(.*)"')
_DAMAGED = re.compile(
    r"magic bytes|file size is|corrupt|truncat|too small|footer|thrift|end of stream|not an? (Arrow|Parquet|Feather)|"
    r"deserializ|decompress|Could not open",
    re.IGNORECASE,
)
_BAD_VALUES = ("ConversionException", "OutOfRangeException", "DataError")
_UNREADABLE = ("IOException", "InvalidInputException", "SerializationException", "PermissionException", "Error")


def duckdb_reason(error: BaseException) -> str:
    """Return what DuckDB says without its kind of error, its advice and the SQL."""
    return first_line(Exception(_SQL.sub("", _KIND.sub("", str(error).strip())))) or type(error).__name__


def of_duckdb(error: BaseException) -> Failure | None:
    """Return the failure behind an error of DuckDB; what it says about our SQL is a bug."""
    said, name = duckdb_reason(error), type(error).__name__
    if name == "OutOfMemoryException":
        return Failure(
            kind=UnavailableError,
            what=f"not enough memory, or room for temporary files: {said}",
            remedy="allow more memory (`rf dataset build --memory-limit`), or make room on the disk of the workspace",
            machine=True,
        )
    if (system := in_text(str(error))) is not None and name not in ("ParserException", "BinderException"):
        return system
    if (missing := _NO_MATCH.search(said)) is not None:
        return Failure(
            kind=NotFoundError, what=f"no such file: {missing[1]}", remedy="correct the path, or make it first"
        )
    if "Could not set lock" in said:
        return Failure(
            kind=UnavailableError, what=f"another process uses the file: {said}", remedy="wait until it has ended"
        )
    if name in _BAD_VALUES:
        return Failure(kind=DataError, what=said, remedy="correct the value, or the type that is declared for it")
    if name in _UNREADABLE:
        return Failure(kind=CorruptError, what=said, remedy=RESTORE)
    return None


def of_arrow(error: BaseException) -> Failure | None:
    """Return the failure behind an error of Arrow, if it tells of a file; else it is a bug."""
    said = first_line(error)
    if (system := in_text(said)) is not None:
        return system
    return Failure(kind=CorruptError, what=said, remedy=RESTORE) if _DAMAGED.search(said) else None


def of_json(error: Any) -> Failure:
    """Return the failure of a text that is no JSON."""
    return Failure(kind=CorruptError, what=f"it is no JSON: {first_line(error)}", remedy=RESTORE, needs_place=True)


def of_yaml(error: Any) -> Failure:
    """Return the failure of a text that is no YAML."""
    mark = getattr(error, "problem_mark", None)
    where = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
    said = getattr(error, "problem", None) or first_line(error)
    return Failure(kind=CorruptError, what=f"it is no YAML: {said}{where}", remedy="correct the file")


def of_validation(error: Any) -> Failure:
    """Return the failure of values that are not those of a pydantic model: its first complaint."""
    wrong = error.errors()[0]
    where = ".".join(str(part) for part in wrong["loc"])
    said = f"{where}: {wrong['msg']}" if where else wrong["msg"]
    return Failure(kind=ConfigError, what=said, remedy="correct it", needs_place=True)


def of_archive(error: BaseException) -> Failure:
    """Return the failure of a damaged archive or compressed file."""
    return Failure(kind=CorruptError, what=first_line(error), remedy=RESTORE)
