"""Find the files of a source in a directory or a zip archive."""

import glob
import shutil
import zipfile
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from rf_platform.data.specs import InputFile
from rf_platform.data.text_stream import DAMAGED, hidden
from rf_platform.errors import DataError, NotFoundError


class Location:
    """A directory, or a zip archive with members unpacked on demand."""

    def __init__(self, path: Path, scratch: Path) -> None:
        """Open ``path``; members of an archive are unpacked below ``scratch``.

        Raises:
            NotFoundError: there is nothing at ``path``.
            DataError: ``path`` is a file but no readable zip archive.
        """
        self.path = path
        self._scratch = scratch
        self._members: list[str] | None = None
        if path.is_dir():
            return
        if not path.exists():
            raise NotFoundError(f"no such file or directory: {path}")
        try:
            with zipfile.ZipFile(path) as archive:
                self._members = sorted(m.filename for m in archive.infolist() if not m.is_dir())
        except (zipfile.BadZipFile, OSError) as error:
            raise DataError(f"{path} is neither a directory nor a readable zip archive: {error}") from error

    def find(self, name: str) -> InputFile | None:
        """Return the file called ``name``, at the top or one directory below it, or None."""
        found = self.match(name) or self.match(f"*/{name}")
        return found[0] if found else None

    def match(self, pattern: str) -> list[InputFile]:
        """Return the files with paths that fit a glob pattern below the top, sorted; ``**`` is any number of directories.

        Hidden files and what systems and tools leave beside data (``__MACOSX``, ``_SUCCESS``) fit no pattern, only their own
        name; in directories that the pattern names as they are, whatever is not hidden there fits.
        """
        parts = PurePosixPath(pattern).parts
        named = next((n for n, part in enumerate(parts) if glob.has_magic(part)), 0)
        if self._members is not None:
            # A name may hold characters that mean something in a pattern.
            names = (
                [pattern]
                if pattern in self._members
                else [
                    m
                    for m in self._members
                    if _fits(m.split("/"), parts) and not hidden("/".join(m.split("/")[named:]))
                ]
            )
            return [InputFile(path=self._unpack(m), name=f"{self.path.name}/{m}") for m in names]
        exact = self.path / pattern
        if exact.is_file():
            paths = [exact]
        else:
            root = "" if Path(pattern).is_absolute() else f"{glob.escape(str(self.path))}/"
            found = (Path(p) for p in glob.glob(root + pattern, recursive=True))
            top = self.path.joinpath(*parts[:named])
            paths = sorted({p for p in found if p.is_file() and not hidden(str(p.relative_to(top)))})
        return [InputFile(path=p, name=self._name(p)) for p in paths]

    def _name(self, path: Path) -> str:
        return str(path.relative_to(self.path) if path.is_relative_to(self.path) else path)

    def _unpack(self, member: str) -> Path:
        target = self._scratch / f"member-{(self._members or []).index(member)}"
        if target.exists():
            return target
        try:
            with zipfile.ZipFile(self.path) as archive, archive.open(member) as source, target.open("wb") as copy:
                shutil.copyfileobj(source, copy, 1 << 20)
        except DAMAGED as error:  # or encrypted
            raise DataError(f"{self.path}: member {member!r} cannot be unpacked: {error}") from error
        return target


def _fits(path: Sequence[str], pattern: Sequence[str]) -> bool:
    """Return whether the parts of a path fit those of a pattern, as :mod:`glob` has it."""
    if not path or not pattern:
        return not path and not pattern
    if pattern[0] != "**":
        return fnmatchcase(path[0], pattern[0]) and _fits(path[1:], pattern[1:])
    return len(pattern) == 1 or any(_fits(path[n:], pattern[1:]) for n in range(len(path)))
