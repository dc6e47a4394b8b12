"""Retention: removal of the bundles, runs and datasets of a workspace that are neither in use nor recent."""

import shutil
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from rf_platform.errors import UsageError
from rf_platform.interrupts import held
from rf_platform.locks import claimed, if_unlocked, locked
from rf_platform.registry.lookup import served_stack
from rf_platform.registry.records import BundleRecord, DatasetRecord, RunRecord, RunStatus
from rf_platform.registry.registry import Registry
from rf_platform.settings import Settings

Record = BundleRecord | RunRecord | DatasetRecord


@dataclass(frozen=True, kw_only=True)
class Retention:
    """Bounds of what is kept besides what is in use."""

    keep: int = 3
    """Newest bundles, runs and datasets, and last bundles that a rollback leads to."""
    days: float = 14.0
    """Age in days up to which anything stays."""
    trials: bool = False
    """Whether trials may go; the tables of ablations are made from them."""

    def oldest(self, now: datetime | None = None) -> datetime:
        """Return the time from which on everything stays."""
        return (now or datetime.now(UTC)) - timedelta(days=self.days)

    def __post_init__(self) -> None:
        """Check the ranges."""
        if self.keep < 1 or self.days < 0:
            raise UsageError(f"--keep={self.keep} has to be 1 or more, and --days={self.days:g} 0 or more")


@dataclass(frozen=True, kw_only=True)
class Removal:
    """Bundles, runs and datasets that go."""

    bundles: tuple[BundleRecord, ...]
    runs: tuple[RunRecord, ...]
    datasets: tuple[DatasetRecord, ...]
    open: tuple[BundleRecord, ...] = ()
    """Bundles that stay for the one reason that a process has them open."""

    def to_dict(self) -> dict[str, Any]:
        """Return names and bytes by kind."""
        kinds: dict[str, tuple[Record, ...]] = {"bundles": self.bundles, "runs": self.runs, "datasets": self.datasets}
        return {
            kind: [{"name": each.name, "bytes": size_of(each.path)} for each in records]
            for kind, records in kinds.items()
        }


def plan_removal(registry: Registry, settings: Settings, retention: Retention, now: datetime | None = None) -> Removal:
    """Return what is neither in use nor recent.

    In use are the bundles that answer requests or stand beside those, the last ones that a rollback leads to, those that a
    process of this host has open, the runs of these and of kept bundles, and the datasets of kept runs. Only what lies in the
    workspace goes, and runs of a process that is at work stay. What was removed before and still has files, since a removal
    was interrupted, goes now.
    """
    oldest = retention.oldest(now)
    present = [b for b in registry.bundles() if _here(b, settings.workspace.bundles)]
    used = _in_use(registry, retention.keep) | {b.name for b in _live(present)[-retention.keep :]}
    stale = [b for b in present if b.name not in used and (b.removed_at or b.created_at < oldest)]
    bundles = [b for b in stale if if_unlocked(b.path, lambda _: None)]
    gone = {b.name for b in bundles}
    runs_used = {b.run for b in registry.bundles() if b.name not in gone and b.removed_at is None}

    runs = [r for r in registry.runs() if _here(r, settings.workspace.runs)]
    runs_used |= {r.name for r in [r for r in _live(runs) if not r.trial][-retention.keep :]}
    going = [
        r
        for r in runs
        if r.name not in runs_used
        and (retention.trials or not r.trial)
        and (r.removed_at or (r.ended_at or r.started_at) < oldest)
        and not _at_work(r.path)
    ]
    gone = {r.name for r in going}
    data_used = {r.dataset for r in registry.runs() if r.name not in gone and r.removed_at is None}

    datasets = [d for d in registry.datasets() if _here(d, settings.workspace.datasets)]
    data_used |= {d.name for d in _live(datasets)[-retention.keep :]}
    unused = [d for d in datasets if d.name not in data_used and (d.removed_at or d.created_at < oldest)]
    still_open = tuple(b for b in stale if b not in bundles)
    return Removal(bundles=tuple(bundles), runs=tuple(going), datasets=tuple(unused), open=still_open)


def remove(registry: Registry, removal: Removal) -> None:
    """Remove the files; records stay, with the time. An interrupted removal is completed by the next.

    Raises:
        UsageError: a run of them is being trained by now.
        UnavailableError: a process has opened a bundle of them by now.
    """
    with ExitStack() as claims:
        for bundle in removal.bundles:
            claims.enter_context(locked(bundle.path, f"bundle '{bundle.name}' is open in another process"))
        for run in removal.runs:
            if not claims.enter_context(claimed(_lock(run.path))):
                raise UsageError(f"run '{run.name}' is being trained; wait until it has ended, or end it")
        registry.note_removed(
            bundles=[b.name for b in removal.bundles],
            runs=[r.name for r in removal.runs],
            datasets=[d.name for d in removal.datasets],
        )
        records: tuple[Record, ...] = (*removal.bundles, *removal.runs, *removal.datasets)
        for record in records:
            with held():
                shutil.rmtree(record.path, ignore_errors=True)


def size_of(path: Path) -> int:
    """Return the bytes of the files below a directory."""
    return sum(file.lstat().st_size for file in path.rglob("*") if file.is_file())


def _in_use(registry: Registry, keep: int) -> set[str]:
    plan = registry.traffic.plan()
    served = [b.name for b in (plan.active, plan.challenger, plan.shadow) if b is not None]
    return {*served, *served_stack((d.action, d.bundle) for d in registry.deployments())[-keep - 1 :]}


def _live(records: Iterable[Any]) -> list[Any]:
    return [each for each in records if each.removed_at is None and getattr(each, "status", None) != RunStatus.FAILED]


def _here(record: Record, directory: Path) -> bool:
    """Whether a record has files, and they lie where the workspace has such."""
    return record.path.parent.resolve() == directory.resolve() and record.path.is_dir() and not record.path.is_symlink()


def _at_work(run: Path) -> bool:
    with claimed(_lock(run)) as mine:
        return not mine


def _lock(run: Path) -> Path:
    """Return the file that a process has locked while it trains a run."""
    return run.parent / ".locks" / run.name
