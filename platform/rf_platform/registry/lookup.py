"""Rows by name as values for callers, and the deployment history, inside a transaction.

The bundle that is served, and the one that a rollback returns to, follow from the history alone. It works like a browser's back
button. A promotion opens a new page; a rollback goes back one page, to the bundle served before the current one, so two
rollbacks in a row go back two; a promotion after a rollback continues from there, and the bundles that were rolled back are no
longer behind it. After promotions of A, B, C, a rollback (to B) and a promotion of D, rollbacks lead to B, then to A, then no
further.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from sqlalchemy import ColumnElement, Select, select
from sqlalchemy.orm import Session

from rf_platform.errors import NotFoundError, UsageError
from rf_platform.registry import models
from rf_platform.registry.models import Bundle, Dataset, Deployment, Run, Traffic
from rf_platform.registry.records import Action, BundleRecord, DatasetRecord, DeploymentRecord, RunRecord, TrafficRecord
from rf_platform.settings import get_settings

Named = TypeVar("Named", Dataset, Run, Bundle)


class _Kind(NamedTuple):
    """Words for a missing row of a table, and the order that finds its newest row."""

    noun: str
    command: str
    newest_first: tuple[ColumnElement[Any], ...]


_KINDS: dict[type[Dataset | Run | Bundle], _Kind] = {
    Dataset: _Kind("dataset", "rf dataset build", (Dataset.created_at.desc(), Dataset.id.desc())),
    Run: _Kind("run", "rf train", (Run.id.desc(),)),
    Bundle: _Kind("bundle", "rf index build", (Bundle.id.desc(),)),
}
HISTORY = select(Deployment).order_by(Deployment.id)
NEWEST_DEPLOYMENT = select(Deployment).order_by(Deployment.id.desc()).limit(1)
NEWEST_TRAFFIC = select(Traffic).order_by(Traffic.id.desc()).limit(1)


def all_rows(session: Session, table: type[Named]) -> list[Named]:
    """Return all rows of a table, the newest last."""
    return list(session.scalars(select(table).order_by(*_KINDS[table].newest_first)))[::-1]


def named(session: Session, table: type[Named], name: str | None) -> Named:
    """Return the row of this name, or the newest one.

    Raises:
        NotFoundError: there is none; the message names close matches, or what there is.
    """
    kind = _KINDS[table]
    query = select(table).order_by(*kind.newest_first).limit(1)
    row = session.scalar(_taken_by_default(query, table) if name is None else query.filter_by(name=name))
    if row is not None:
        return row
    existing = session.scalars(select(table.name).order_by(*kind.newest_first)).all()
    asked = f"no {kind.noun}" if name is None else f"no {kind.noun} '{name}'"
    if name is None or not existing:
        raise NotFoundError(
            f"{asked}: the registry has none yet; run `{kind.command}` ({get_settings().workspace.root})"
        )
    close = get_close_matches(name, existing, n=3)
    meant = f"did you mean {' or '.join(close)}? The" if close else "the"
    more = f" and {len(existing) - 10} more" if len(existing) > 10 else ""
    raise NotFoundError(f"{asked}: {meant} registry has {', '.join(existing[:10])}{more}")


def _taken_by_default(query: Select[Any], table: type[Named]) -> Select[Any]:
    """Leave out what has no files any more, and trials."""
    query = query.where(table.removed_at.is_(None))
    return query.where(~Run.trial) if table is Run else query


def previous_bundle(session: Session) -> Bundle:
    """Return the bundle that a rollback leads to.

    Raises:
        UsageError: nothing was served before the current bundle.
    """
    stack = served_stack((d.action, d.bundle) for d in session.scalars(HISTORY))
    if len(stack) < 2:
        why = f"nothing was served before '{stack[0].name}'" if stack else "no bundle was ever promoted"
        raise UsageError(f"there is nothing to go back to: {why}; use `rf promote NAME`")
    return stack[-2]


def append_deployment(session: Session, bundle: Bundle, action: Action, note: str) -> Deployment:
    """Add an entry to the deployment history."""
    row = Deployment(bundle=bundle, action=action, created_at=datetime.now(UTC), note=note)
    session.add(row)
    session.flush()
    return row


def append_traffic(
    session: Session,
    *,
    challenger: Bundle | None,
    percent: float,
    salt: str,
    shadow: Bundle | None,
    share: float,
    note: str,
) -> Traffic:
    """Add an entry to the history of what stands beside the served bundle."""
    row = Traffic(challenger=challenger, percent=percent, salt=salt, shadow=shadow, share=share, note=note)
    row.created_at = datetime.now(UTC)
    session.add(row)
    session.flush()
    return row


T = TypeVar("T")


def served_stack(history: Iterable[tuple[Action, T]]) -> list[T]:
    """Return the bundles on the way back, the served one last; empty if nothing was ever promoted.

    Args:
        history: action and bundle of every deployment, oldest first.
    """
    stack: list[T] = []
    for action, bundle in history:
        if action == Action.PROMOTE:
            stack.append(bundle)
        else:
            stack.pop()
    return stack


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
            removed_at=row.removed_at,
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
            trial=row.trial,
            removed_at=row.removed_at,
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
            removed_at=row.removed_at,
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
