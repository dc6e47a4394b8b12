"""Failures of libraries and the system, in the terms of the platform."""

from dataclasses import dataclass

from rf_platform.errors import RfError

RESTORE = "restore the file, or make it again"
"""Default remedy for a damaged file."""
PLACE = "{place}"
"""Stands in :attr:`Failure.what` for a file or directory that the exception does not name."""


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A failure of a library or of the system."""

    kind: type[RfError]
    """Class of the error that is raised for it."""
    what: str
    """Cause, as the middle of a sentence."""
    remedy: str
    """Remedy, as a clause."""
    number: int | None = None
    """The ``errno`` behind it, where there is one."""
    machine: bool = False
    """The machine lacks something (room, rights, memory), so kind and remedy are these, whatever was being done."""

    needs_place: bool = False
    """It tells of a content, so it is one only where the code says what it reads; anywhere else the exception is a bug."""

    def reason(self, place: str) -> str:
        """Return what failed; ``place`` is named where the exception names no file."""
        return self.what.replace(PLACE, place)
