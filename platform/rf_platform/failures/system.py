"""Failures of the system: full disks, rights, missing files, memory, connections, and text in another encoding."""

import errno
import os
import re
from dataclasses import replace
from pathlib import Path
from shutil import disk_usage
from textwrap import shorten
from typing import Any

from rf_platform.errors import ConfigError, CorruptError, NotFoundError, RfError, RunError, UnavailableError
from rf_platform.failures.failure import PLACE, Failure


def _machine(what: str, remedy: str) -> Failure:
    return Failure(kind=UnavailableError, what=what, remedy=remedy, machine=True)


def _failure(kind: type[RfError], what: str, remedy: str) -> Failure:
    return Failure(kind=kind, what=what, remedy=remedy)


_ROOM = "make room there, or use another disk (RF_HOME moves the workspace, TMPDIR the temporary files)"
_RIGHTS = "mend the rights of the file or its directory, or use another path (RF_HOME moves the workspace)"
_SERVER = "check the address and that the server is up"
_MEANINGS: dict[int, Failure] = {
    errno.ENOSPC: _machine("no space left on the disk of {place}", _ROOM),
    errno.EDQUOT: _machine("the disk quota is used up on the disk of {place}", _ROOM),
    errno.EFBIG: _machine("{place} is larger than the system allows", "raise the limit (ulimit -f)"),
    errno.EROFS: _machine(
        "{place} is on a read-only file system",
        "mount it for writing, or use another path (RF_HOME moves the workspace)",
    ),
    errno.EACCES: _machine("permission denied: {place}", _RIGHTS),
    errno.EPERM: _machine("operation not permitted: {place}", _RIGHTS),
    errno.EMFILE: _machine("too many open files, the last is {place}", "raise the limit (ulimit -n)"),
    errno.ENFILE: _machine("too many open files on this machine, the last is {place}", "close other programs"),
    errno.ENOMEM: _machine("this machine has not enough memory", "free some, or use a larger machine"),
    errno.EIO: _machine("input/output error on the disk of {place}", "look at the system's log and check the disk"),
    errno.ESTALE: _machine("the file system of {place} went away", "mount it again"),
    errno.ENOENT: _failure(NotFoundError, "no such file or directory: {place}", "correct the path, or make it first"),
    errno.ENOTDIR: _failure(ConfigError, "not a directory: {place}, or what lies above it", "name a directory"),
    errno.EISDIR: _failure(ConfigError, "{place} is a directory, and a file is needed", "name a file"),
    errno.EEXIST: _failure(ConfigError, "{place} exists already", "choose another name, or remove it"),
    errno.ENOTEMPTY: _failure(
        ConfigError, "{place} exists already and is not empty", "choose another name, or remove it"
    ),
    errno.ENAMETOOLONG: _failure(ConfigError, "the name is too long: {place}", "choose a shorter one"),
    errno.ELOOP: _failure(ConfigError, "too many links lead to {place}", "name the file itself"),
    errno.ECONNREFUSED: _failure(UnavailableError, "connection refused", _SERVER),
    errno.ECONNRESET: _failure(UnavailableError, "the connection was closed by the other side", _SERVER),
    errno.EPIPE: _failure(UnavailableError, "the connection was closed by the other side", _SERVER),
    errno.ETIMEDOUT: _failure(UnavailableError, "no answer in time", _SERVER),
    errno.EHOSTUNREACH: _failure(UnavailableError, "the host cannot be reached", _SERVER),
    errno.ENETUNREACH: _failure(UnavailableError, "the network cannot be reached", _SERVER),
    errno.EADDRINUSE: _failure(UnavailableError, "the address is in use", "stop what uses it, or choose another one"),
}
_MISUSE = (errno.EBADF, errno.EINVAL, errno.ECHILD, errno.ENOTSOCK)
"""Numbers that tell of a mistake in a program."""
_OF_CLASS = {
    "FileNotFoundError": errno.ENOENT,
    "PermissionError": errno.EACCES,
    "IsADirectoryError": errno.EISDIR,
    "NotADirectoryError": errno.ENOTDIR,
    "FileExistsError": errno.EEXIST,
    "TimeoutError": errno.ETIMEDOUT,
    "ConnectionRefusedError": errno.ECONNREFUSED,
}
_SAID = {
    **{os.strerror(number): number for number in _MEANINGS},
    "is a directory": errno.EISDIR,
    "file write failed": errno.ENOSPC,  # torch
    "database or disk is full": errno.ENOSPC,  # SQLite
    "attempt to write a readonly database": errno.EROFS,
    "disk I/O error": errno.EIO,
}
_IN_TEXT = re.compile("|".join(re.escape(said) for said in sorted(_SAID, key=len, reverse=True)), re.IGNORECASE)
_NUMBER_OF = {said.lower(): number for said, number in _SAID.items()}
_PAGE_BYTES = 4096
_LONGEST = 400
"""Characters of a line that goes on in the next."""
_QUOTED = re.compile(r"""["']([^"'\n]*/[^"'\n]*)["']""")
_PATH = re.compile(r"(?:^|(?<=\s))(/[^\s:'\",;]+)")


def of_number(number: int, place: str | None) -> Failure:
    """Return the failure that an ``errno`` of the table stands for."""
    meaning = _MEANINGS[number]
    return replace(meaning, what=meaning.what.replace(PLACE, place or PLACE), number=number)


def has_room(place: Path | str) -> bool:
    """Return whether the disk of a path takes a page of a database more; SQLite calls a full disk an input/output error."""
    there = next((each for each in (Path(place), *Path(place).parents) if each.exists()), None)
    return there is None or disk_usage(there).free >= _PAGE_BYTES


def lacking(directory: Path) -> Failure | None:
    """Return what keeps files from being written in a directory, for libraries that do not say; None if nothing does."""
    if not directory.is_dir():
        return None
    state = os.statvfs(directory)
    if state.f_flag & os.ST_RDONLY:
        return of_number(errno.EROFS, str(directory))
    if not os.access(directory, os.W_OK):
        return of_number(errno.EACCES, str(directory))
    return of_number(errno.ENOSPC, str(directory)) if state.f_bavail == 0 else None


def in_text(text: str) -> Failure | None:
    """Return the failure that a library reports in the system's words, or None; a path in the text is its place."""
    found = _IN_TEXT.search(text)
    return None if found is None else of_number(_NUMBER_OF[found[0].lower()], path_in(text))


def path_in(text: str) -> str | None:
    """Return the first path that a message names."""
    found = _QUOTED.search(text) or _PATH.search(text)
    return found[1] if found else None


def first_line(error: BaseException) -> str:
    """Return the first line of what an exception says, with the next one if it ends in a colon, or the name of its class."""
    first, *others = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return shorten(f"{first} {others[0]}", _LONGEST, placeholder=" ...") if first.endswith(":") and others else first


def summary(error: BaseException) -> str:
    """Return class and first line of an exception of a library, for use inside a message of ours."""
    said = first_line(error) if str(error).strip() else "no message"
    return f"{type(error).__name__}: {said}"


def of_os_error(error: Any) -> Failure | None:
    """Return the failure behind an ``OSError``; None for misuse of the system, and for texts that it does not know."""
    named = error.filename2 or error.filename
    place = os.fsdecode(named) if isinstance(named, (str, bytes, os.PathLike)) else None
    text = first_line(error)
    number = error.errno
    if number not in _MEANINGS:
        number = next((n for c in type(error).__mro__ if (n := _OF_CLASS.get(c.__name__)) is not None), None)
    if number is not None:
        return of_number(number, place or path_in(text))
    if (said := in_text(text)) is not None:
        return said
    if error.errno is None or error.errno in _MISUSE:
        return None
    where = f"{place}: " if place else ""
    return Failure(kind=RunError, what=f"{where}{error.strerror or text}", remedy="mend that, and try again")


def of_connection(error: Any) -> Failure:
    """Return the failure of an address that cannot be looked up, or of a connection."""
    return Failure(
        kind=UnavailableError, what=str(getattr(error, "strerror", None) or first_line(error)), remedy=_SERVER
    )


def of_memory(error: BaseException) -> Failure:
    """Return the failure of an allocation."""
    lacking = of_number(errno.ENOMEM, None)
    said = str(error).strip()
    return lacking if not said else replace(lacking, what=f"{lacking.what} ({first_line(error)})")


def of_text(error: Any) -> Failure:
    """Return the failure of bytes that are no text, or of text that an encoding lacks."""
    if isinstance(error, UnicodeDecodeError):
        byte = f"byte 0x{error.object[error.start]:02x} at {error.start}"
        said = f"it is no {error.encoding.upper()} text ({byte})"
        return Failure(kind=CorruptError, what=said, remedy="save it as UTF-8 text", needs_place=True)
    return Failure(kind=ConfigError, what=first_line(error), remedy="use UTF-8 (PYTHONUTF8=1, or a UTF-8 locale)")
