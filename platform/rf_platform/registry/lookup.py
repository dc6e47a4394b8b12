"""Find rows by name, and read and continue the deployment history, inside a transaction."""

from datetime import UTC, datetime
from difflib import get_close_matches
from typing import Any, NamedTuple, TypeVar

from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import Session

from rf_platform.errors import NotFoundError, UsageError
from rf_platform.registry.history import served_stack
from rf_platform.registry.models import Bundle, Dataset, Deployment, Run, Traffic
from rf_platform.registry.records import Action

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
    row = session.scalar(query if name is None else query.filter_by(name=name))
    if row is not None:
        return row
    existing = session.scalars(select(table.name).order_by(*kind.newest_first)).all()
    asked = f"no {kind.noun}" if name is None else f"no {kind.noun} '{name}'"
    if name is None or not existing:
        raise NotFoundError(f"{asked}: the registry has none yet; run `{kind.command}`")
    close = get_close_matches(name, existing, n=3)
    meant = f"did you mean {' or '.join(close)}? The" if close else "the"
    more = f" and {len(existing) - 10} more" if len(existing) > 10 else ""
    raise NotFoundError(f"{asked}: {meant} registry has {', '.join(existing[:10])}{more}")


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
