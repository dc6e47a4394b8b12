"""Indexes of the catalogs that are served, built in the background and kept while their bundle is."""

from dataclasses import dataclass
from pathlib import Path
from threading import Lock, Thread
from time import monotonic

import structlog

from rf_console.catalog_index import CatalogIndex, build_index
from rf_platform.bundle.files import SPEC
from rf_platform.errors import NotFoundError, RfError, UnavailableError
from rf_platform.features.spec import FeatureSpec
from rf_platform.registry import BundleRecord, Registry
from rf_platform.registry.journal import CatalogJournal
from rf_platform.settings import Settings

_VERSION = 1
"""Of the files' layout."""
_WAIT_SECONDS = 3.0


@dataclass
class _Build:
    thread: Thread
    since: float
    error: str = ""


class Catalogs:
    """Finds the index of the active bundle's catalog; safe from any thread.

    Args:
        settings: of the workspace.
        registry: says which bundle is active.
    """

    def __init__(self, settings: Settings, registry: Registry) -> None:
        self._settings, self._registry, self._lock = settings, registry, Lock()
        self.journal = CatalogJournal.open(settings.platform_registry_url)
        """Changes of the live catalog."""
        self._open: dict[str, CatalogIndex] = {}
        self._builds: dict[str, _Build] = {}

    def active(self) -> tuple[BundleRecord, CatalogIndex]:
        """Return the active bundle and the index of its catalog, which is built if need be.

        Raises:
            NotFoundError: no bundle is promoted.
            UnavailableError: the index is being built.
        """
        record = self._registry.active_bundle()
        if record is None:
            raise NotFoundError(
                "no bundle is promoted, so there is no catalog; build one by `rf index build`, then promote it"
            )
        name = f"{record.name}-{record.manifest_sha256[:12]}"
        path = self._settings.workspace.cache / "console" / f"{name}-{_VERSION}.db"
        with self._lock:
            if (found := self._open.get(name)) is not None:
                return record, found
            build = self._builds.get(name)
            if build is None and not path.exists():
                thread = Thread(target=self._make, args=(name, record, path), name="rf-catalog-index", daemon=True)
                build = self._builds[name] = _Build(thread, monotonic())
                thread.start()
        if build is not None:
            build.thread.join(_WAIT_SECONDS)
            if build.thread.is_alive():
                raise UnavailableError(
                    f"the index of the catalog is being built, since {monotonic() - build.since:.0f} s; load the page again soon"
                )
            if build.error:
                raise UnavailableError(f"the index of the catalog cannot be built: {build.error}")
        with self._lock:
            if name not in self._open:
                self._close()
                self._open[name] = CatalogIndex(path, self.journal, FeatureSpec.load(record.path / SPEC))
            return record, self._open[name]

    def close(self) -> None:
        """Close what is open."""
        with self._lock:
            self._close()
        self.journal.close()

    def _close(self) -> None:
        for each in self._open.values():
            each.close()
        self._open.clear()

    def _make(self, name: str, record: BundleRecord, path: Path) -> None:
        try:
            for old in path.parent.glob("*.db"):
                old.unlink(missing_ok=True)
            build_index(record, FeatureSpec.load(record.path / SPEC), self.journal, path)
        except Exception as error:
            structlog.get_logger("rf_console").exception("catalog index failed", bundle=record.name)
            self._builds[name].error = str(error) if isinstance(error, RfError) else "the console's log has the reason"
        else:
            with self._lock:
                del self._builds[name]
