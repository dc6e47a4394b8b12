"""A disk of its own for a command: full, almost full, or read-only."""

import ctypes
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

_NEW_MOUNTS, _NEW_USER = 0x00020000, 0x10000000
_PRIVATE, _READ_ONLY, _REMOUNT, _BIND = 0x44000, 1, 32, 4096
"""Constants of Linux's headers: CLONE_NEWNS and CLONE_NEWUSER, MS_PRIVATE with MS_REC, and other MS_* flags."""

_SIZE = 32 << 20


class Disk(NamedTuple):
    """A small disk that is mounted over a directory, for one process and its forks only."""

    place: Path
    """The directory; the workspace is ``home`` in it."""
    template: Path
    """The workspace that is copied there."""
    left: int | None = None
    """Bytes that are free; None: it is read-only."""
    then: Sequence[Sequence[str]] = ()
    """Commands that run if it failed, when there is room again, until one ends well."""

    @contextmanager
    def spoilt(self) -> Iterator[None]:
        """Make the disk full or read-only inside the block; one that is read-only stays so."""
        if self.left is None:
            _mount(self.place, self.place, "", _BIND)
            _mount("none", self.place, "", _REMOUNT | _BIND | _READ_ONLY)
            yield
            return
        filler = self.place / "filler"
        _fill(filler, self.left)
        yield
        filler.unlink()


def own_disk(disk: Disk) -> Path:
    """Mount a disk, copy the workspace there and return it."""
    uid, gid = os.getuid(), os.getgid()
    _system(_libc().unshare(_NEW_MOUNTS if uid == 0 else _NEW_MOUNTS | _NEW_USER))
    if uid:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {uid} 1")
        Path("/proc/self/gid_map").write_text(f"0 {gid} 1")
    _mount("none", Path("/"), "", _PRIVATE)
    _mount("tmpfs", disk.place, "tmpfs", 0, f"size={_SIZE}")
    copy(disk.template, disk.place / "home")
    return disk.place / "home"


def copy(source: Path, target: Path) -> None:
    """Copy a directory."""
    subprocess.run(["cp", "-RP", source, target], check=True)


def listing(directory: Path) -> dict[str, int]:
    """Return sizes of all that lies in a directory, by path."""
    return {
        str(path.relative_to(directory)): 0 if path.is_dir() else path.lstat().st_size
        for path in directory.rglob("*")
        if "__pycache__" not in path.parts
    }


def _fill(filler: Path, left: int) -> None:
    with filler.open("wb", buffering=0) as file:
        while (most := min(1 << 20, shutil.disk_usage(filler.parent).free - left)) > 0:
            file.write(bytes(most))


def _mount(source: str | Path, target: Path, kind: str, flags: int, options: str = "") -> None:
    texts = [os.fsencode(text) for text in (source, target, kind)]
    _system(_libc().mount(*texts, ctypes.c_ulong(flags), options.encode() or None))


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _system(result: int) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
