"""Cache of contents that were fetched, by SHA-256: one for each workspace, shared by all processes of the host.

``fetched/objects/ab/ab12…`` are whole contents with the right hash; ``ab12….begun`` are downloads that were interrupted and
go on where they ended. Bundles in the workspace are hard links to them, so a content lies on the disk once, and `rf gc` of a
bundle leaves it here until the room is needed. Everything happens under one lock.
"""

import hashlib
import os
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event

from rf_platform.cli.console import Tracker
from rf_platform.errors import CorruptError, UnavailableError
from rf_platform.failures import writing
from rf_platform.files import sync
from rf_platform.interrupts import held
from rf_platform.locks import claimed, if_unlocked
from rf_platform.object_store.listing import sha256_of
from rf_platform.object_store.remote import RemoteStore

_AT_ONCE = 4
"""Files that are fetched side by side."""
_MIB = 1 << 20
_BEGUN = ".begun"


class ContentCache:
    """Contents on the local disk, up to a size."""

    def __init__(self, directory: Path, bundles: Path, most_bytes: int) -> None:
        """Take a directory for it.

        Args:
            directory: of the cache, on the disk of ``bundles``.
            bundles: directory of the bundles that may go to make room, if they were fetched and no process has them open.
            most_bytes: size of all contents together, those of bundles among them.
        """
        self._directory, self._bundles, self._most_bytes = directory, bundles, most_bytes

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Wait for the processes of this host that fetch something, and keep others out while the block runs."""
        with claimed(self._directory / ".lock", wait=True):
            yield

    def path(self, sha256: str) -> Path:
        """Return the path of a content, which need not be there."""
        return self._directory / "objects" / sha256[:2] / sha256

    def take(
        self, remote: RemoteStore, key: Callable[[str], str], sizes: Mapping[str, int], progress: Tracker, keep: Path
    ) -> None:
        """Have contents here, each compared with its hash. To be called under the lock.

        Args:
            remote: where they come from.
            key: returns the key of a content there.
            sizes: bytes of each, by SHA-256.
            progress: is told of MiB.
            keep: bundle that they are for, which never goes to make room.

        Raises:
            UnavailableError: the store cannot be reached, or there is no room in the cache.
            CorruptError: a content is not there, or is not what its name says; the message has its key.
        """
        missing = {sha256: size for sha256, size in sizes.items() if not self._have(sha256, size)}
        progress.advance((sum(sizes.values()) - sum(missing.values())) / _MIB)
        self._make_room(missing, sizes.keys(), keep)
        stop = Event()
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            jobs = [
                pool.submit(self._fetch, _Download(remote, key(sha256), size, progress, stop), sha256)
                for sha256, size in missing.items()
            ]
            try:
                for job in jobs:
                    job.result()
            except BaseException:
                stop.set()
                pool.shutdown(cancel_futures=True)
                raise

    def drop(self, sha256: str) -> None:
        """Remove a content that nothing will ask for again."""
        self.path(sha256).unlink(missing_ok=True)

    def _have(self, sha256: str, size: int) -> bool:
        """Return whether a content is here; one that was damaged since is removed."""
        path = self.path(sha256)
        if not path.is_file():
            return False
        if sha256_of(path) == (sha256, size):
            os.utime(path)  # it is the last to go
            return True
        path.unlink()
        return False

    def _fetch(self, download: "_Download", sha256: str) -> None:
        """Download a content, or what is missing of it, and give it its name if it has its hash."""
        part = self.path(sha256).with_name(sha256 + _BEGUN)
        part.parent.mkdir(parents=True, exist_ok=True)
        begun = part.stat().st_size if part.exists() else 0
        try:
            found = download.into(part)
            if (
                found != sha256 and begun
            ):  # what was there was damaged, by a crash of the machine: once more, from the start
                part.unlink()
                found = download.into(part)
        except CorruptError:
            part.unlink(missing_ok=True)
            raise
        if found != sha256:
            part.unlink()
            raise CorruptError(
                f"{download.place} is damaged: its content has the SHA-256 {found[:12]}…, not the one it is named by, and is "
                f"not used; remove it there (`rf store rm`) and push it again from where it was made"
            )
        sync(part)
        os.replace(part, self.path(sha256))

    def _make_room(self, missing: Mapping[str, int], wanted: Collection[str], keep: Path) -> None:
        """Remove contents that nothing links to, the oldest first, then fetched bundles that no process has open."""
        needed = sum(missing.values())
        while (used := self._used(missing)) + needed > self._most_bytes:
            if not (self._remove_free(wanted) or self._remove_bundle(keep)):
                raise UnavailableError(
                    f"the cache {self._directory} has no room: {_mib(needed)} are needed beside {_mib(used)} that are in use, "
                    f"and RF_STORE_CACHE_MB allows {_mib(self._most_bytes)}; raise it, or stop what has other bundles open"
                )

    def _used(self, missing: Mapping[str, int]) -> int:
        """Return the bytes of all contents and partial downloads, but of those that are counted as missing."""
        return sum(path.stat().st_size for path in self._objects() if path.name.removesuffix(_BEGUN) not in missing)

    def _objects(self) -> list[Path]:
        return [path for path in (self._directory / "objects").glob("*/*") if path.is_file()]

    def _remove_free(self, wanted: Collection[str]) -> bool:
        free = [
            (state.st_mtime_ns, path)
            for path in self._objects()
            if (state := path.stat()).st_nlink == 1 and path.name.removesuffix(_BEGUN) not in wanted
        ]
        if free:
            min(free)[1].unlink()
        return bool(free)

    def _remove_bundle(self, keep: Path) -> bool:
        """Remove the bundle that was fetched first of those that no process has open; False if there is none."""
        ours = {path.stat().st_ino for path in self._objects()}
        fetched = [
            (manifest.stat().st_mtime_ns, manifest.parent)
            for manifest in self._bundles.glob("*/manifest.json")
            if manifest.stat().st_ino in ours and manifest.parent != keep
        ]
        with held():
            return any(if_unlocked(bundle, shutil.rmtree) for _, bundle in sorted(fetched))


@dataclass(frozen=True)
class _Download:
    """One content of a store, on its way."""

    remote: RemoteStore
    key: str
    size: int
    progress: Tracker
    stop: Event
    """Another download has failed, or the process is interrupted: what is here so far stays for the next time."""

    @property
    def place(self) -> str:
        return f"{self.remote.url}/{self.key}"

    def into(self, part: Path) -> str:
        """Append to a file what it lacks, and return the SHA-256 of the whole."""
        digest = hashlib.sha256()
        with writing(part), part.open("a+b") as file:
            if file.tell() > self.size:
                file.truncate(0)
            file.seek(0)
            while some := file.read(_MIB):
                digest.update(some)
            for some in self.remote.parts(self.key, file.tell(), self.size):
                file.write(some)
                file.flush()  # what is here is here, also after a kill
                digest.update(some)
                self.progress.advance(len(some) / _MIB)
                if self.stop.is_set():
                    raise UnavailableError(f"{self.place} is not here as a whole; fetch it again")
        return digest.hexdigest()


def _mib(size: int) -> str:
    return f"{size / _MIB:,.1f} MiB"
