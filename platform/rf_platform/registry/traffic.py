"""The bundles beside the served one: a challenger that takes a part of the users, a shadow that answers unseen."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from secrets import token_hex

from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from rf_platform.errors import UsageError
from rf_platform.registry.lookup import NEWEST_DEPLOYMENT, NEWEST_TRAFFIC, RowReader, append_traffic, named
from rf_platform.registry.models import Bundle, Experiment
from rf_platform.registry.policies import NEWEST_POLICY, record
from rf_platform.registry.records import ServingPlan, TrafficRecord

RUNNING_EXPERIMENT = select(Experiment).where(Experiment.ended_at.is_(None)).order_by(Experiment.id.desc()).limit(1)

WITHDRAWN = "withdrawn"
"""Finding of an experiment that was ended by `rf promote` or `rf rollback`."""


class TrafficControl:
    """Reads and changes the split and the shadow; part of a :class:`~rf_platform.registry.Registry` (its ``traffic``).

    Every change is one more entry of a history that is never rewritten.
    """

    def __init__(
        self,
        session: Callable[[Engine], AbstractContextManager[Session]],
        engine: Engine,
        writer: Engine,
        rows: RowReader,
    ) -> None:
        self._session, self._engine, self._writer, self._rows = session, engine, writer, rows

    def now(self) -> TrafficRecord:
        """Return what stands beside the served bundle."""
        with self._session(self._engine) as session:
            newest = session.scalar(NEWEST_TRAFFIC)
            return TrafficRecord() if newest is None else self._rows.traffic(newest)

    def plan(self) -> ServingPlan:
        """Return everything that servers should serve, read in one transaction."""
        with self._session(self._engine) as session:
            deployment, traffic = session.scalar(NEWEST_DEPLOYMENT), session.scalar(NEWEST_TRAFFIC)
            policy = record(session.scalar(NEWEST_POLICY))
            challenger, shadow = (traffic.challenger, traffic.shadow) if traffic else (None, None)
            return ServingPlan(
                revision=(
                    deployment.id if deployment else 0,
                    traffic.id if traffic else 0,
                    policy.version if policy else 0,
                ),
                active=self._rows.bundle(deployment.bundle) if deployment else None,
                challenger=self._rows.bundle(challenger) if challenger else None,
                shadow=self._rows.bundle(shadow) if shadow else None,
                traffic=self._rows.traffic(traffic) if traffic else TrafficRecord(),
                policy=policy,
            )

    def split(self, name: str, percent: float, note: str = "") -> TrafficRecord:
        """Assign a part of the users to a bundle beside the served one (A/B split).

        Users stay with their bundle: another percentage for the same challenger moves only as many as it has to.

        Args:
            name: the challenger.
            percent: of the users, more than 0 and less than 100.
            note: why, for the history.

        Raises:
            NotFoundError: there is no such bundle.
            UsageError: nothing is served yet, it is the served bundle, the percentage is not possible, or an experiment is
                running.
        """
        if not 0 < percent < 100:
            raise UsageError(
                f"--percent {percent:g} is no share of the users; give more than 0 and less than 100, end a split with "
                f"`rf rollback`, and give the bundle to all with `rf promote {name}`"
            )
        with self._session(self._writer) as session:
            bundle = _beside_the_served(session, name)
            if (running := session.scalar(RUNNING_EXPERIMENT)) is not None:
                raise UsageError(
                    f"experiment '{running.name}' is running, and another split would spoil it; end it by "
                    f"`rf experiment stop`"
                )
            before = session.scalar(NEWEST_TRAFFIC)
            going_on = before is not None and before.challenger_id == bundle.id
            row = append_traffic(
                session,
                challenger=bundle,
                percent=percent,
                salt=before.salt if before is not None and going_on else token_hex(8),
                shadow=before.shadow if before else None,
                share=before.share if before else 0.0,
                note=note,
            )
            return self._rows.traffic(row)

    def shadow(self, name: str | None, share: float, note: str = "") -> TrafficRecord:
        """Start shadow traffic for a bundle, or with None end it.

        Raises:
            NotFoundError: there is no such bundle.
            UsageError: nothing is served yet, it is the served bundle, or the share is not possible.
        """
        if name is not None and not 0 < share <= 1:
            raise UsageError(f"--share {share:g} is no share of the requests; give more than 0 and at most 1")
        with self._session(self._writer) as session:
            bundle = _beside_the_served(session, name) if name is not None else None
            before = session.scalar(NEWEST_TRAFFIC)
            row = append_traffic(
                session,
                challenger=before.challenger if before else None,
                percent=before.percent if before else 0.0,
                salt=before.salt if before else "",
                shadow=bundle,
                share=share if bundle is not None else 0.0,
                note=note,
            )
            return self._rows.traffic(row)

    def end_split(self, note: str = "") -> str | None:
        """Give the challenger's users back to the served bundle; return its name, None if there was no split."""
        with self._session(self._writer) as session:
            return withdraw(session, note)


def withdraw(session: Session, note: str, promoted: Bundle | None = None) -> str | None:
    """End a split, and the experiment on it; a shadow goes on, unless it is the bundle that was just promoted.

    Returns:
        The challenger's name.
    """
    if (running := session.scalar(RUNNING_EXPERIMENT)) is not None:
        running.ended_at, running.finding = datetime.now(UTC), WITHDRAWN
        running.sentence = f"{promoted.name} was promoted." if promoted is not None else "The challenger was withdrawn."
    before = session.scalar(NEWEST_TRAFFIC)
    if before is None:
        return None
    shadow = before.shadow if promoted is None or before.shadow_id != promoted.id else None
    if before.challenger is None and shadow is before.shadow:
        return None
    append_traffic(
        session,
        challenger=None,
        percent=0.0,
        salt="",
        shadow=shadow,
        share=before.share if shadow else 0.0,
        note=note,
    )
    return before.challenger.name if before.challenger else None


def _beside_the_served(session: Session, name: str) -> Bundle:
    bundle = named(session, Bundle, name)
    served = session.scalar(NEWEST_DEPLOYMENT)
    if served is None:
        raise UsageError(f"no bundle is served that '{name}' could stand beside; run `rf promote {name}`")
    if served.bundle_id == bundle.id:
        raise UsageError(f"'{name}' is the served bundle itself; name another one, `rf bundles` lists them")
    return bundle
