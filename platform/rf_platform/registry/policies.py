"""Versions of the policy: the newest one is in effect, none is ever changed."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import UTC, datetime

from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from rf_platform.errors import NotFoundError
from rf_platform.registry.models import PolicyVersion
from rf_platform.registry.records import PolicyRecord
from rf_platform.settings import get_settings

NEWEST_POLICY = select(PolicyVersion).order_by(PolicyVersion.id.desc()).limit(1)


class PolicyVersions:
    """Reads and adds versions of the policy; part of a :class:`~rf_platform.registry.Registry` (its ``policies``)."""

    def __init__(
        self, session: Callable[[Engine], AbstractContextManager[Session]], engine: Engine, writer: Engine
    ) -> None:
        self._session, self._engine, self._writer = session, engine, writer

    def newest(self) -> PolicyRecord | None:
        """Return the version in effect; None if there never was a policy."""
        with self._session(self._engine) as session:
            return record(session.scalar(NEWEST_POLICY))

    def version(self, number: int) -> PolicyRecord:
        """Return a version.

        Raises:
            NotFoundError: there is no such version.
        """
        with self._session(self._engine) as session:
            found, newest = record(session.get(PolicyVersion, number)), record(session.scalar(NEWEST_POLICY))
        if found is None:
            there = (
                f"the newest is {newest.version}"
                if newest is not None
                else f"there is no policy in {get_settings().workspace.root} yet; run `rf policy apply`"
            )
            raise NotFoundError(f"there is no policy version {number}; {there}")
        return found

    def history(self) -> list[PolicyRecord]:
        """Return all versions, the oldest first."""
        with self._session(self._engine) as session:
            rows = session.scalars(select(PolicyVersion).order_by(PolicyVersion.id))
            return [each for row in rows if (each := record(row)) is not None]

    def apply(self, text: str, note: str = "") -> PolicyRecord:
        """Put a policy into effect, without checking it; the text of the newest version again adds nothing.

        Args:
            text: YAML, as :func:`rf_platform.policies.load_policy` has read it.
            note: why, for the history.
        """
        with self._session(self._writer) as session:
            row = session.scalar(NEWEST_POLICY)
            if row is None or row.text != text:
                row = PolicyVersion(text=text, created_at=datetime.now(UTC), note=note)
                session.add(row)
                session.flush()
            found = record(row)
        assert found is not None
        return found


def record(row: PolicyVersion | None) -> PolicyRecord | None:
    """Return the record of a row."""
    if row is None:
        return None
    return PolicyRecord(version=row.id, text=row.text, created_at=row.created_at, note=row.note)
