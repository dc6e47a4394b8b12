"""The directories of a workspace."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Workspace:
    """One catalog's home: imported tables, feature stores, datasets, runs and bundles."""

    root: Path

    @property
    def tables(self) -> Path:
        """Imported, validated tables: interactions, items, users (Parquet) and ``import.json``."""
        return self.root / "tables"

    @property
    def events(self) -> Path:
        """The event log: what was recorded since the import. An import leaves it alone."""
        return self.root / "events"

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
    def cache(self) -> Path:
        """Directory of files that servers can make again; may be deleted while none runs."""
        return self.root / "cache"
