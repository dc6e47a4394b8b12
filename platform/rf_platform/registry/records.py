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
    removed_at: datetime | None = None
    """Time at which its files were removed."""


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
    trial: bool = False
    """Whether it is one of many, such as a cell of an ablation: never the newest run, where none is named."""
    removed_at: datetime | None = None


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
    removed_at: datetime | None = None


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
class ExperimentRecord:
    """An experiment: a challenger beside the served bundle, and what is measured."""

    name: str
    control: str
    """The bundle that was served when it began."""
    challenger: str
    percent: float
    salt: str
    settings: dict[str, Any]
    """Outcome, window and limits, as `rf experiment start` took them."""
    started_at: datetime
    ended_at: datetime | None
    """None: it is running."""
    finding: str | None
    """Finding at its end."""
    sentence: str
    """Verdict at its end."""
    note: str

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self.ended_at is None


@dataclass(frozen=True, kw_only=True)
class PolicyRecord:
    """One version of the policy, in effect from its creation to the next one's."""

    version: int
    """1 is the first."""
    text: str
    """YAML as it was written, for :func:`rf_platform.policies.read_policy`."""
    created_at: datetime
    note: str

    @property
    def name(self) -> str:
        """The version as messages name it."""
        return f"policy version {self.version}"


@dataclass(frozen=True, kw_only=True)
class ServingPlan:
    """Everything that servers should serve now, as of one moment."""

    revision: tuple[int, int, int]
    """Changes whenever the plan does."""
    active: BundleRecord | None
    challenger: BundleRecord | None
    shadow: BundleRecord | None
    traffic: TrafficRecord
    policy: PolicyRecord | None = None
    """None: there are no rules."""

    @classmethod
    def of(cls, bundle: BundleRecord) -> Self:
        """Return a plan with one bundle and nothing beside it."""
        return cls(revision=(0, 0, 0), active=bundle, challenger=None, shadow=None, traffic=TrafficRecord())
