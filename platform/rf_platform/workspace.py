"""The directories of a workspace."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

from rf_platform.errors import NotFoundError

_ONLY_EXISTING: ContextVar[bool] = ContextVar("only_existing", default=False)


@contextmanager
def made_by_imports_only() -> Iterator[None]:
    """Have :meth:`Workspace.check_exists` refuse a workspace that is not there: a misspelt path is no new, empty one.

    Commands run inside; programs that use the registry as a library make workspaces of their own.
    """
    token = _ONLY_EXISTING.set(True)
    try:
        yield
    finally:
        _ONLY_EXISTING.reset(token)


@dataclass(frozen=True)
class Workspace:
    """One catalog's home: imported tables, feature stores, datasets, runs and bundles."""

    root: Path

    def check_exists(self) -> None:
        """Make sure that there is one, inside :func:`made_by_imports_only`.

        Raises:
            NotFoundError: there is none.
        """
        if _ONLY_EXISTING.get() and not self.root.is_dir():
            raise NotFoundError(
                f"there is no workspace at {self.root}; `rf data import` makes one, `rf --home DIR` or RF_HOME names another"
            )

    @property
    def tables(self) -> Path:
        """Imported, validated tables: interactions, items, users (Parquet) and ``import.json``."""
        return self.root / "tables"

    @property
    def events(self) -> Path:
        """The event log: what was recorded since the import. An import leaves it alone."""
        return self.root / "events"

    @property
    def serving_log(self) -> Path:
        """The serving log: what servers answered, and the features they read."""
        return self.root / "serving-log"

    @property
    def skew(self) -> Path:
        """Results of skew replays and monitors, the newest of which the console shows."""
        return self.root / "skew"

    @property
    def refresh(self) -> Path:
        """Record of the refresh that is going on, or was the last one."""
        return self.root / "refresh.json"

    @property
    def feast(self) -> Path:
        """Feast's own state: SQL registry and SQLite online store."""
        return self.root / "feast"

    @property
    def datasets(self) -> Path:
        """Dataset versions, one directory each."""
        return self.root / "datasets"

    @property
    def runs(self) -> Path:
        """Training runs, one directory each."""
        return self.root / "runs"

    @property
    def bundles(self) -> Path:
        """Served bundles, one directory each."""
        return self.root / "bundles"

    @property
    def fetched(self) -> Path:
        """Contents that were fetched from the object store, by SHA-256; on the disk of bundles, which are links to them."""
        return self.root / "fetched"

    @property
    def cache(self) -> Path:
        """Directory of files that servers can make again; may be deleted while none runs."""
        return self.root / "cache"
