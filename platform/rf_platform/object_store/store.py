"""The object store of a workspace: bundles, datasets, runs and logs go up and come down, each as a whole or not at all.

A thing is a listing (``bundles/NAME/listing.json``) and its contents beside it, each named by its SHA-256. Contents go first and
the listing last, in one write: until then nobody sees any of it.
"""

import os
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from rf_platform.bundle.manifest import MANIFEST, SIGNATURE, FileEntry, read_manifest
from rf_platform.bundle.plain import to_plain
from rf_platform.cli.console import track
from rf_platform.errors import CorruptError, NotFoundError, UsageError
from rf_platform.files import new_file
from rf_platform.object_store.cache import ContentCache
from rf_platform.object_store.listing import Kind, Listing, key_of, read_listing, sha256_of, walk
from rf_platform.object_store.remote import RemoteStore
from rf_platform.settings import Settings
from rf_platform.staging import staged

STAGING = ".fetching-"
_AT_ONCE = 4
_MIB = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Pushed:
    """Result of a push."""

    listing: Listing
    sent_bytes: int
    """Bytes of the contents that the store did not have."""


class ObjectStore:
    """Things by kind and name at ``RF_STORE_URL``, and what was fetched of them in the workspace."""

    def __init__(self, settings: Settings) -> None:
        """Take the URL and the size of the cache; nothing is asked of the store before it is used."""
        assert settings.store_url is not None
        self._url = settings.store_url
        workspace = settings.workspace
        self._cache = ContentCache(workspace.fetched, workspace.bundles, settings.store_cache_mb * _MIB)

    @cached_property
    def remote(self) -> RemoteStore:
        """The store itself.

        Raises:
            ConfigError: the URL is not usable.
            NotFoundError: its directory does not exist.
        """
        return RemoteStore(self._url)

    def push(self, kind: Kind, name: str, directory: Path, facts: Mapping[str, Any]) -> Pushed:
        """Upload a directory; what the store has of it already is not sent again.

        Args:
            kind: of the thing.
            name: of the thing.
            directory: its files, which nothing changes meanwhile.
            facts: records of the registry, see :class:`Listing`.

        Raises:
            NotFoundError: there is no such directory, or no such bucket.
            CorruptError: it is a bundle, and damaged; the message names the files.
            UsageError: the store has another bundle of that name.
            ConfigError, UnavailableError: the store cannot be written to.
        """
        if not directory.is_dir():
            raise NotFoundError(f"{kind} '{name}' has no files here, in {directory}; push it from where they are")
        before = self.find(kind, name)
        if kind is Kind.BUNDLE and before is not None and _same_bundle(before, directory):
            return Pushed(listing=before, sent_bytes=0)
        files, links = walk(directory)
        listing = Listing(
            kind=kind, name=name, created_at=datetime.now(UTC), files=files, links=links, facts=to_plain(dict(facts))
        )
        if kind is Kind.BUNDLE:
            _check_whole(directory, files)
        if before is not None and kind is Kind.BUNDLE and before.files.get(MANIFEST) != files[MANIFEST]:
            raise UsageError(
                f"{self.remote.url} has another bundle '{name}', and bundles never change; build this one under another name"
            )
        if before is not None and (before.files, before.links, before.facts) == (files, links, listing.facts):
            return Pushed(listing=before, sent_bytes=0)
        paths = {entry.sha256: directory / path for path, entry in files.items()}
        sent = 0
        with (
            track(f"pushing {kind} {name} (MiB)", _size(files)) as progress,
            ThreadPoolExecutor(_AT_ONCE) as pool,
        ):
            jobs = {sha256: pool.submit(self._send, key_of(kind, name, sha256), path) for sha256, path in paths.items()}
            try:
                for sha256, job in jobs.items():
                    sent += job.result()
                    progress.advance(listing.sizes[sha256] / _MIB)
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
        self.remote.put(key_of(kind, name), listing.model_dump_json(indent=2).encode())
        if before is not None:  # what only the listing before had
            self.remote.delete([key_of(kind, name, sha) for sha in before.sizes.keys() - listing.sizes.keys()])
        return Pushed(listing=listing, sent_bytes=sent)

    def _send(self, key: str, path: Path) -> int:
        size = path.stat().st_size
        if self.remote.size(key) == size:
            return 0
        self.remote.put(key, path)
        return size

    def find(self, kind: Kind, name: str) -> Listing | None:
        """Return the listing of a thing, or None.

        Raises:
            CorruptError, ConfigError, UnavailableError: it cannot be read.
        """
        key = key_of(kind, name)
        text = self.remote.get(key)
        return None if text is None else read_listing(text, f"{self.remote.url}/{key}")

    def listing(self, kind: Kind, name: str) -> Listing:
        """Return the listing of a thing.

        Raises:
            NotFoundError: the store has no such thing; the message names some that it has.
            CorruptError, ConfigError, UnavailableError: it cannot be read.
        """
        if (found := self.find(kind, name)) is not None:
            return found
        there = self.remote.directories(f"{kind}s/")
        has = f"it has {', '.join(there[-10:])}" if there else f"it has no {kind} at all"
        raise NotFoundError(
            f"{self.remote.url} has no {kind} '{name}' ({key_of(kind, name)}), {has}; `rf store push {kind} {name}` where its "
            f"files are"
        )

    def listings(self, kind: Kind | None = None) -> Iterator[Listing]:
        """Yield all things, by kind and name; what is being pushed for the first time is not there yet."""
        for each in Kind if kind is None else (kind,):
            for name in self.remote.directories(f"{each}s/"):
                if (found := self.find(each, name)) is not None:
                    yield found

    def remove(self, kind: Kind, name: str) -> Listing:
        """Remove a thing from the store; what is here stays.

        Raises:
            NotFoundError: there is none.
        """
        found = self.listing(kind, name)
        self.remote.delete([key_of(kind, name)])  # first: nobody begins to fetch it
        self.remote.delete(self.remote.keys(f"{kind}s/{name}/"))
        return found

    def pull(self, listing: Listing, directory: Path, *, visible: bool = True) -> None:
        """Make a directory of a thing's files here, unless there is one; of a log, add the files that are missing.

        Of a bundle that is here already, the signature is renewed: nothing else of it ever changes.

        Args:
            listing: of the thing.
            directory: where it belongs.
            visible: show the progress.

        Raises:
            UnavailableError: the store cannot be reached, or there is no room.
            CorruptError: a content is damaged in the store; it is not used.
        """
        with self._cache.locked():
            wanted = dict(listing.files)
            if listing.kind is Kind.LOG:
                wanted = {path: entry for path, entry in wanted.items() if not (directory / path).exists()}
            elif directory.exists():
                wanted = _newer_signature(listing, directory)
            if not wanted and directory.exists():
                return
            with track(f"fetching {listing.kind} {listing.name} (MiB)", _size(wanted), visible=visible) as progress:
                self._cache.take(
                    self.remote,
                    lambda sha256: key_of(listing.kind, listing.name, sha256),
                    {entry.sha256: entry.bytes for entry in wanted.values()},
                    progress,
                    directory,
                )
            contents = {path: entry.sha256 for path, entry in wanted.items()}
            if listing.kind is Kind.LOG or directory.exists():
                for path, sha256 in contents.items():
                    with new_file(directory / path, within=directory.parent) as file:
                        shutil.copyfile(self._cache.path(sha256), file)
                    self._cache.drop(sha256)
                return
            with staged(directory, STAGING) as staging:
                self._place(contents, staging, linked=listing.kind is Kind.BUNDLE)
                for path, to in listing.links.items():
                    (staging / path).parent.mkdir(parents=True, exist_ok=True)
                    (staging / path).symlink_to(to)

    def _place(self, contents: Mapping[str, str], directory: Path, *, linked: bool) -> None:
        """Give contents their names: links to the cache for what never changes, else files of their own."""
        left = Counter(contents.values())
        for path, sha256 in contents.items():
            target, source = directory / path, self._cache.path(sha256)
            target.parent.mkdir(parents=True, exist_ok=True)
            left[sha256] -= 1
            if linked:
                os.link(source, target)
            elif left[sha256]:
                shutil.copyfile(source, target)
            else:
                os.replace(source, target)


def _newer_signature(listing: Listing, directory: Path) -> dict[str, FileEntry]:
    """Return the signature of a listed bundle if the one that is here is another; nothing for other kinds."""
    entry = listing.files.get(SIGNATURE) if listing.kind is Kind.BUNDLE else None
    return {SIGNATURE: entry} if entry is not None and _entry(directory / SIGNATURE) != entry else {}


def _check_whole(directory: Path, files: Mapping[str, FileEntry]) -> None:
    """Refuse a bundle with other files than those of its manifest.

    Raises:
        CorruptError: they are not, or there is no manifest.
    """
    expected = read_manifest(directory).files
    here = {path: entry for path, entry in files.items() if path not in (MANIFEST, SIGNATURE)}
    if wrong := sorted(path for path in expected.keys() | here.keys() if expected.get(path) != here.get(path)):
        raise CorruptError(
            f"bundle '{directory.name}' is damaged and is not pushed: {', '.join(wrong)}; build it again"
        )


def _same_bundle(listing: Listing, directory: Path) -> bool:
    """Return whether a bundle is the listed one: its manifest stands for all of it but the signature."""
    return all(listing.files.get(name) == _entry(directory / name) for name in (MANIFEST, SIGNATURE))


def _entry(path: Path) -> FileEntry | None:
    if not path.is_file():
        return None
    sha256, size = sha256_of(path)
    return FileEntry(sha256=sha256, bytes=size)


def _size(wanted: Mapping[str, FileEntry]) -> float:
    return sum(entry.bytes for entry in wanted.values()) / _MIB
