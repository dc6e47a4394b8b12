"""From database rows to the values that callers get, and back for paths."""

from dataclasses import dataclass
from pathlib import Path

from rf_platform.registry import models
from rf_platform.registry.records import BundleRecord, DatasetRecord, DeploymentRecord, RunRecord, TrafficRecord


@dataclass(frozen=True)
class RowReader:
    """Turns rows into records."""

    root: Path
    """The workspace; paths inside it are stored relative to it, so that it can be moved or mounted elsewhere."""

    def store_path(self, path: Path | str) -> str:
        """Return the text that is stored for a path."""
        absolute = Path(path).resolve()
        return str(absolute.relative_to(self.root) if absolute.is_relative_to(self.root) else absolute)

    def dataset(self, row: models.Dataset) -> DatasetRecord:
        """Return a dataset version's record."""
        return DatasetRecord(
            name=row.name,
            version=row.version,
            path=self.root / row.path,
            fingerprint=row.fingerprint,
            spec_hash=row.spec_hash,
            counts=row.counts,
            created_at=row.created_at,
        )

    def run(self, row: models.Run) -> RunRecord:
        """Return a run's record."""
        return RunRecord(
            name=row.name,
            dataset=row.dataset.name,
            recipe=row.recipe,
            config=row.config,
            status=row.status,
            metrics=row.metrics,
            path=self.root / row.path,
            error=row.error,
            started_at=row.started_at,
            ended_at=row.ended_at,
        )

    def bundle(self, row: models.Bundle) -> BundleRecord:
        """Return a bundle's record."""
        return BundleRecord(
            name=row.name,
            run=row.run.name,
            path=self.root / row.path,
            manifest_sha256=row.manifest_sha256,
            spec_hash=row.spec_hash,
            metrics=row.metrics,
            created_at=row.created_at,
        )

    def deployment(self, row: models.Deployment) -> DeploymentRecord:
        """Return a deployment's record."""
        return DeploymentRecord(
            id=row.id, bundle=row.bundle.name, action=row.action, created_at=row.created_at, note=row.note
        )

    def traffic(self, row: models.Traffic) -> TrafficRecord:
        """Return the record of what stands beside the served bundle."""
        return TrafficRecord(
            challenger=row.challenger.name if row.challenger else None,
            percent=row.percent,
            salt=row.salt,
            shadow=row.shadow.name if row.shadow else None,
            share=row.share,
            created_at=row.created_at,
            note=row.note,
        )
