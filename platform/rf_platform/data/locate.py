"""Find the files of a source in a directory or a zip archive."""

import glob
import shutil
import zipfile
from fnmatch import fnmatch
from pathlib import Path

from rf_platform.data.specs import InputFile
from rf_platform.errors import DataError, NotFoundError


class Location:
    """A directory, or a zip archive whose members are unpacked on demand."""

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
        """Return the files whose path below the top fits a glob pattern, sorted by path."""
        if self._members is not None:
            depth = pattern.count("/")
            names = [m for m in self._members if m.count("/") == depth and fnmatch(m, pattern)]
            # A name may hold characters that mean something in a pattern.
            names = [pattern] if pattern in self._members else names
            return [InputFile(path=self._unpack(m), name=f"{self.path.name}/{m}") for m in names]
        exact = self.path / pattern
        root = "" if Path(pattern).is_absolute() else f"{glob.escape(str(self.path))}/"
        paths = [exact] if exact.is_file() else sorted(p for p in map(Path, glob.glob(root + pattern)) if p.is_file())
        return [
            InputFile(path=p, name=str(p.relative_to(self.path) if p.is_relative_to(self.path) else p)) for p in paths
        ]

    def _unpack(self, member: str) -> Path:
        target = self._scratch / f"member-{(self._members or []).index(member)}{''.join(Path(member).suffixes[-2:])}"
        if target.exists():
            return target
        try:
            with zipfile.ZipFile(self.path) as archive, archive.open(member) as source, target.open("wb") as copy:
                shutil.copyfileobj(source, copy, 1 << 20)
        except (zipfile.BadZipFile, OSError, RuntimeError, NotImplementedError) as error:  # damaged or encrypted
            raise DataError(f"{self.path}: member {member!r} cannot be unpacked: {error}") from error
        return target
