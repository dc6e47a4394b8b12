"""Raise failures as errors of the platform, with what was being done and to which file."""

import errno
import json
import traceback
from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from rf_platform.errors import CorruptError, RfError
from rf_platform.failures.failure import PLACE, RESTORE, Failure
from rf_platform.failures.system import has_room, of_number, summary
from rf_platform.failures.table import failure_of
from rf_platform.interrupts import raise_if_received

_MALFORMED = (ValueError, KeyError, TypeError, AttributeError, IndexError, EOFError, AssertionError)
"""Errors of readers for content of another format."""


def as_rf_error(
    error: BaseException,
    *,
    about: str = "",
    place: Path | str = "",
    kind: type[RfError] | None = None,
    remedy: str | None = None,
) -> RfError | None:
    """Return what an exception means as an error of the platform, or None if it is a bug.

    Args:
        error: what was raised; an error of the platform is returned as it is.
        about: what was being done, or to what; stands first in the message. Without it, a content that is not as it should be
            (no JSON, no text, wrong values) is a bug: something was not read as what it may be.
        place: the file or directory, for exceptions that name none.
        kind: what is raised, unless the machine is at fault.
        remedy: what to do about it, unless the machine is at fault.
    """
    if isinstance(error, RfError):
        return error
    failure = failure_of(error)
    if failure is None or (failure.needs_place and not about):
        return None
    return _raised(failure, about, place, kind, remedy)


def origin(error: BaseException) -> str:
    """Return the top-level package that raised an exception, such as ``feast``; a C extension counts as its caller."""
    frames = list(traceback.walk_tb(error.__traceback__))
    return str(frames[-1][0].f_globals.get("__name__", "")).partition(".")[0] if frames else ""


@contextmanager
def translated(
    about: str,
    remedy: str | None = None,
    kind: type[RfError] | None = None,
    *,
    place: Path | str = "",
    malformed: bool = False,
    packages: Collection[str] = (),
) -> Iterator[None]:
    """Translate what a library or the system raises inside the block; see :func:`as_rf_error`.

    In two kinds of blocks an exception that the table does not know is no bug of ours. With ``malformed``, the block only reads
    something: ``ValueError``, ``KeyError`` and the like tell of what was read. Exceptions of any class that are raised in
    ``packages``, such as ``feast``, tell of what these were given.
    """
    try:
        yield
    except RfError:
        raise
    except Exception as error:
        known = as_rf_error(error, about=about, place=place, kind=kind, remedy=remedy)
        if known is None:
            raise_if_received()
        if known is None and ((malformed and _tells_of_content(error)) or origin(error) in packages):
            said = summary(error) if getattr(error, "errno", None) != errno.EINVAL else "it is cut short, or damaged"
            known = _raised(Failure(kind=CorruptError, what=said, remedy=RESTORE), about, place, kind, remedy)
        if known is None:
            raise
        raise known from error


def reading(
    path: Path | str, remedy: str | None = None, kind: type[RfError] = CorruptError
) -> AbstractContextManager[None]:
    """Translate whatever reading a file raises: it is damaged, or of another format."""
    return translated(f"{path} cannot be read", remedy, kind, place=path, malformed=True)


def writing(path: Path | str, remedy: str | None = None) -> AbstractContextManager[None]:
    """Translate what writing a file or directory raises."""
    return translated(f"{path} cannot be written", remedy, place=path)


def read_json(path: Path, remedy: str | None = None, kind: type[RfError] = CorruptError) -> dict[str, Any]:
    """Return the object in a JSON file.

    Raises:
        RfError: of the given kind, if the file is damaged; see :func:`as_rf_error` for others.
    """
    with reading(path, remedy, kind):
        found = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(found, dict):
            raise kind(f"{path} cannot be read: it holds no JSON object; {remedy or RESTORE}")
        return found


def _tells_of_content(error: Exception) -> bool:
    if isinstance(error, OSError):  # of a library in its own words, or a place in the file where none can be
        return error.errno in (None, errno.EINVAL)
    return isinstance(error, (*_MALFORMED, RuntimeError))


def _raised(failure: Failure, about: str, place: Path | str, kind: type[RfError] | None, remedy: str | None) -> RfError:
    if failure.number == errno.EIO and place and not has_room(place):
        failure = of_number(errno.ENOSPC, str(place))
    reason = failure.reason(str(place) or "the workspace")
    chosen = failure.kind if failure.machine or kind is None else kind
    told = not about or (failure.machine and PLACE not in failure.what)  # where something is lacking is in the reason
    what = reason if told else f"{about}: {reason}"
    return chosen(f"{what}; {failure.remedy if failure.machine or remedy is None else remedy}")
