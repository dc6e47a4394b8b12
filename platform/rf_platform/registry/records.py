"""Records that the registry returns: frozen values that outlive the database session."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, Self


class RunStatus(StrEnum):
    """Status of a training run."""

    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"


class Action(StrEnum):
    """Kind of a deployment."""

    PROMOTE = "promote"
    ROLLBACK = "rollback"


@dataclass(frozen=True, kw_only=True)
class DatasetRecord:
    """A dataset version."""

    name: str
    """Name of this version, for example ``movielens-100k-v2``."""
    version: int
    """Its number among the versions of the same data."""
    path: Path
    fingerprint: str
    spec_hash: str
    counts: dict[str, Any]
    created_at: datetime
    """Time of the last build, UTC."""


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """A training run."""

    name: str
    dataset: str
    """Name of the dataset version."""
    recipe: str
    config: dict[str, Any]
    status: RunStatus
    metrics: dict[str, Any]
    path: Path
    error: str | None
    """Reason of the failure."""
    started_at: datetime
    ended_at: datetime | None


@dataclass(frozen=True, kw_only=True)
class BundleRecord:
    """A bundle that can be served."""

    name: str
    run: str
    path: Path
    manifest_sha256: str
    spec_hash: str
    metrics: dict[str, Any]
    created_at: datetime


@dataclass(frozen=True, kw_only=True)
class DeploymentRecord:
    """One entry of the deployment history: from then on, ``bundle`` was served."""

    id: int
    bundle: str
    action: Action
    created_at: datetime
    note: str


@dataclass(frozen=True, kw_only=True)
class TrafficRecord:
    """Split and shadow beside the served bundle, from a moment on."""

    challenger: str | None = None
    """Answers :attr:`percent` of the users."""
    percent: float = 0.0
    salt: str = ""
    """Decides which users; the same from the begin of a split to its end."""
    shadow: str | None = None
    """Answers :attr:`share` of the requests unseen."""
    share: float = 0.0
    created_at: datetime | None = None
    """None: nothing ever stood beside the served bundle."""
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class ServingPlan:
    """Everything that servers should serve now, as of one moment."""

    revision: tuple[int, int]
    """Changes whenever the plan does."""
    active: BundleRecord | None
    challenger: BundleRecord | None
    shadow: BundleRecord | None
    traffic: TrafficRecord

    @classmethod
    def of(cls, bundle: BundleRecord) -> Self:
        """Return a plan with one bundle and nothing beside it."""
        return cls(revision=(0, 0), active=bundle, challenger=None, shadow=None, traffic=TrafficRecord())
