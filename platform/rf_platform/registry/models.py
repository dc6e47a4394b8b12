"""The registry's tables. Names begin with ``rf_``, so that a database can be shared with Feast's registry or others."""

from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    DateTime,
    Dialect,
    Enum,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    UniqueConstraint,
    false,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship
from sqlalchemy.types import TypeDecorator

from rf_platform.registry.records import Action, RunStatus

TABLE_PREFIX = "rf_"
VERSION_TABLE = "rf_schema_version"
"""Table of the schema's revision, kept by Alembic."""


class UtcDateTime(TypeDecorator[datetime]):
    """A point in time: aware UTC in Python, whatever the engine stores."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Convert to UTC; SQLite stores it without its zone."""
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Attach or convert to UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def _words(enum: type[StrEnum]) -> Enum:
    return Enum(
        enum, native_enum=False, create_constraint=True, length=16, values_callable=lambda e: [m.value for m in e]
    )


class Base(DeclarativeBase):
    """Base of all tables."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(column_0_label)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012 (SQLAlchemy declares it as a plain attribute)
        datetime: UtcDateTime(),
        dict[str, Any]: JSON().with_variant(JSONB(), "postgresql"),
        RunStatus: _words(RunStatus),
        Action: _words(Action),
    }


class Dataset(Base):
    """A dataset version: directory, fingerprint, feature specification, counts.

    Written by ``rf dataset build``.
    """

    __tablename__ = "rf_datasets"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    version: Mapped[int]
    path: Mapped[str]
    fingerprint: Mapped[str]
    spec_hash: Mapped[str]
    counts: Mapped[dict[str, Any]]
    created_at: Mapped[datetime]
    removed_at: Mapped[datetime | None]


class Run(Base):
    """A training run: dataset, recipe, configuration, status (running, completed, failed), metrics, error.

    Written by ``rf train``.
    """

    __tablename__ = "rf_runs"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    dataset_id: Mapped[int] = mapped_column(ForeignKey("rf_datasets.id"))
    recipe: Mapped[str]
    config: Mapped[dict[str, Any]]
    status: Mapped[RunStatus]
    metrics: Mapped[dict[str, Any]]
    path: Mapped[str]
    error: Mapped[str | None]
    started_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    trial: Mapped[bool] = mapped_column(server_default=false())
    removed_at: Mapped[datetime | None]

    dataset: Mapped[Dataset] = relationship(lazy="joined")


class Bundle(Base):
    """A bundle that can be served: run, directory, SHA-256 of its manifest, metrics.

    Written by ``rf index build``.
    """

    __tablename__ = "rf_bundles"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    run_id: Mapped[int] = mapped_column(ForeignKey("rf_runs.id"))
    path: Mapped[str]
    manifest_sha256: Mapped[str]
    spec_hash: Mapped[str]
    metrics: Mapped[dict[str, Any]]
    created_at: Mapped[datetime]
    removed_at: Mapped[datetime | None]

    run: Mapped[Run] = relationship(lazy="joined")


class Deployment(Base):
    """One promotion or rollback; rows are only ever added, and the newest one's bundle is served.

    Written by ``rf promote``, ``rf rollback``.
    """

    __tablename__ = "rf_deployments"

    id: Mapped[int] = mapped_column(primary_key=True)
    bundle_id: Mapped[int] = mapped_column(ForeignKey("rf_bundles.id"))
    action: Mapped[Action]
    created_at: Mapped[datetime]
    note: Mapped[str]

    bundle: Mapped[Bundle] = relationship(lazy="joined")


class Traffic(Base):
    """One change of the split or the shadow beside the served bundle; rows are only ever added, the newest is in effect.

    Written by ``rf promote --percent``, ``rf shadow``.
    """

    __tablename__ = "rf_traffic"

    id: Mapped[int] = mapped_column(primary_key=True)
    challenger_id: Mapped[int | None] = mapped_column(ForeignKey("rf_bundles.id"))
    percent: Mapped[float]
    salt: Mapped[str]
    shadow_id: Mapped[int | None] = mapped_column(ForeignKey("rf_bundles.id"))
    share: Mapped[float]
    created_at: Mapped[datetime]
    note: Mapped[str]

    challenger: Mapped[Bundle | None] = relationship(foreign_keys=[challenger_id], lazy="joined")
    shadow: Mapped[Bundle | None] = relationship(foreign_keys=[shadow_id], lazy="joined")


class PolicyVersion(Base):
    """One version of the policy: its YAML as it was written; rows are only ever added, and the newest one is in effect.

    Written by ``rf policy apply``.
    """

    __tablename__ = "rf_policies"

    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]
    created_at: Mapped[datetime]
    note: Mapped[str]


class Experiment(Base):
    """An experiment on a split: bundles, percentage, what is measured, and what was found.

    Written by ``rf experiment``.
    """

    __tablename__ = "rf_experiments"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    control_id: Mapped[int] = mapped_column(ForeignKey("rf_bundles.id"))
    challenger_id: Mapped[int] = mapped_column(ForeignKey("rf_bundles.id"))
    percent: Mapped[float]
    salt: Mapped[str]
    settings: Mapped[dict[str, Any]]
    started_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    finding: Mapped[str | None]
    sentence: Mapped[str]
    note: Mapped[str]

    control: Mapped[Bundle] = relationship(foreign_keys=[control_id], lazy="joined")
    challenger: Mapped[Bundle] = relationship(foreign_keys=[challenger_id], lazy="joined")


class CatalogChange(Base):
    """One change of an item of the live catalog: number, item, features, times.

    Written by ``rf items``, ``CatalogService``.
    """

    __tablename__ = "rf_catalog_journal"
    __table_args__ = (
        # At most one change of an item is its newest; it is also how that one is found.
        Index(
            "uq_rf_catalog_journal_newest",
            "item_id",
            unique=True,
            sqlite_where=text("superseded_us IS NULL"),
            postgresql_where=text("superseded_us IS NULL"),
        ),
        Index("ix_rf_catalog_journal_superseded_us", "superseded_us"),
    )

    sequence: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    item_id: Mapped[str]
    features: Mapped[str | None]
    """Canonical JSON by full feature name; NULL: the item was deleted."""
    changed_us: Mapped[int] = mapped_column(BigInteger)
    superseded_us: Mapped[int | None] = mapped_column(BigInteger)
    """Time of the next change of the item; NULL: this is the newest."""


class ItemEvidence(Base):
    """One of the first users of an item: the event, the query just before it, and the features that gave the query.

    Written by the leader of the event consumers.
    """

    __tablename__ = "rf_item_evidence"
    # Numbers are never given twice, also if the newest rows are removed with their item.
    __table_args__ = (UniqueConstraint("item_id", "user_id"), {"sqlite_autoincrement": True})

    sequence: Mapped[int] = mapped_column(
        BigInteger().with_variant(Integer(), "sqlite"), primary_key=True, autoincrement=True
    )
    item_id: Mapped[str]
    user_id: Mapped[str]
    event: Mapped[int] = mapped_column(BigInteger)
    """Number of the event in the log."""
    timestamp_us: Mapped[int] = mapped_column(BigInteger)
    bundle: Mapped[str]
    """The bundle with the user tower of ``query``."""
    query: Mapped[bytes]
    """The unit query vector, 32-bit floats, little-endian."""
    features: Mapped[str]
    """Profile and history just before the event as JSON, for other user towers."""
