"""Experiments: what is measured while a challenger has a part of the users, and what was found."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from rf_platform.bundle import check_name, to_plain
from rf_platform.errors import NotFoundError, UsageError
from rf_platform.registry.lookup import NEWEST_DEPLOYMENT, NEWEST_TRAFFIC
from rf_platform.registry.models import Experiment
from rf_platform.registry.records import ExperimentRecord
from rf_platform.registry.traffic import RUNNING_EXPERIMENT, withdraw


class Experiments:
    """Reads and changes experiments; part of a :class:`~rf_platform.registry.Registry` (its ``experiments``).

    At most one is running, since there is one split.
    """

    def __init__(
        self, session: Callable[[Engine], AbstractContextManager[Session]], engine: Engine, writer: Engine
    ) -> None:
        self._session, self._engine, self._writer = session, engine, writer

    def start(self, name: str, settings: Mapping[str, Any], note: str = "") -> ExperimentRecord:
        """Record that the split that is in effect is an experiment from now on.

        Args:
            name: of the experiment.
            settings: what is measured.
            note: why, for the history.

        Raises:
            UsageError: there is no split, an experiment is running, or the name is taken or not usable.
        """
        check_name("experiment", name)
        with self._session(self._writer) as session:
            if (running := session.scalar(RUNNING_EXPERIMENT)) is not None:
                raise UsageError(f"experiment '{running.name}' is running; end it by `rf experiment stop`")
            if session.scalar(select(Experiment).filter_by(name=name)) is not None:
                raise UsageError(f"there was an experiment '{name}' before; choose another name")
            traffic, served = session.scalar(NEWEST_TRAFFIC), session.scalar(NEWEST_DEPLOYMENT)
            if traffic is None or traffic.challenger is None or served is None:
                raise UsageError("no challenger has a part of the users; run `rf experiment start BUNDLE --percent N`")
            row = Experiment(
                name=name,
                control=served.bundle,
                challenger=traffic.challenger,
                percent=traffic.percent,
                salt=traffic.salt,
                settings=to_plain(settings),
                started_at=datetime.now(UTC),
                sentence="",
                note=note,
            )
            session.add(row)
            session.flush()
            return _record(row)

    def running(self) -> ExperimentRecord | None:
        """Return the experiment that is running."""
        with self._session(self._engine) as session:
            row = session.scalar(RUNNING_EXPERIMENT)
            return None if row is None else _record(row)

    def history(self) -> list[ExperimentRecord]:
        """Return all experiments, the oldest first."""
        with self._session(self._engine) as session:
            return [_record(row) for row in session.scalars(select(Experiment).order_by(Experiment.id))]

    def get(self, name: str | None = None) -> ExperimentRecord:
        """Return an experiment by name, or the one that began last.

        Raises:
            NotFoundError: there is none; the message names those that there are.
        """
        known = self.history()
        for each in reversed(known):
            if name in (None, each.name):
                return each
        asked = f"there is no experiment '{name}'" if name else "there was no experiment yet"
        raise NotFoundError(
            f"{asked}: {', '.join(each.name for each in known) or 'begin one by `rf experiment start`'}"
        )

    def stop(self, finding: str, sentence: str, note: str = "") -> ExperimentRecord:
        """End the running experiment, and give the challenger's users back to the served bundle.

        Args:
            finding: what it found.
            sentence: its verdict.
            note: for the history of the split.

        Raises:
            UsageError: none is running.
        """
        with self._session(self._writer) as session:
            row = session.scalar(RUNNING_EXPERIMENT)
            if row is None:
                raise UsageError("no experiment is running; `rf experiment list` shows those that ended")
            row.ended_at, row.finding, row.sentence = datetime.now(UTC), finding, sentence
            session.flush()
            withdraw(session, note)
            return _record(row)


def _record(row: Experiment) -> ExperimentRecord:
    return ExperimentRecord(
        name=row.name,
        control=row.control.name,
        challenger=row.challenger.name,
        percent=row.percent,
        salt=row.salt,
        settings=row.settings,
        started_at=row.started_at,
        ended_at=row.ended_at,
        finding=row.finding,
        sentence=row.sentence,
        note=row.note,
    )
