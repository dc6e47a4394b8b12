"""State of an experiment on a split: one observation of each user, the effect, the guard rails, and the verdict."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from time import time
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from rf_platform.effects import (
    DEGRADED,
    LATENCY,
    Arm,
    ConfidenceSequence,
    Coverage,
    Effect,
    Evidence,
    Interval,
    RailCheck,
    Readiness,
    SampleRatio,
    Verdict,
    check_rail,
    coverage,
    judge,
    preferences,
)
from rf_platform.errors import UsageError
from rf_platform.registry import ExperimentRecord
from rf_platform.settings import Settings
from rf_platform.sql import literal
from rf_serving.experiments.answers import logged_answers
from rf_serving.experiments.outcomes import outcomes

_DAY_US = 86_400_000_000
PAST_DAYS = 28
"""Days before the first answer that say what a user did before."""
_COVERAGE_PLACES = 1_000
"""Places of the smaller bundle before its coverage is judged."""


@dataclass(frozen=True, kw_only=True)
class ExperimentSettings:
    """Outcome of an experiment, and its limits."""

    outcome: tuple[str, ...]
    """Types of events that count."""
    value: str | None = None
    """Column of the interactions that is summed; None: events are counted."""
    window_seconds: float = 86_400.0
    """Time after a user's first answer in which events count."""
    margin: float = 0.01
    """Relative difference that does not matter."""
    users: int = 10_000
    """Number of users that the interval is narrowest at."""
    only_shown: bool = False
    """Whether only events on items that an answer had shown count."""

    def __post_init__(self) -> None:
        """Check the values."""
        if not self.outcome:
            raise UsageError("--outcome: name a type of event that counts, such as purchase")
        if not self.window_seconds > 0:
            raise UsageError(f"--window: {self.window_seconds:g} seconds are no time to do anything in")
        if not 0 <= self.margin < 1:
            raise UsageError(f"--margin={self.margin:g} has to be a share of the served bundle's mean, 0 to 1")
        if self.users < 1:
            raise UsageError(f"--users={self.users} has to be at least 1")

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "ExperimentSettings":
        """Rebuild settings that the registry has kept."""
        return cls(**{**data, "outcome": tuple(data["outcome"])})

    @property
    def metric(self) -> str:
        """The outcome in words."""
        types, shown = " or ".join(self.outcome), " on shown items" if self.only_shown else ""
        what = f"{self.value} of {types}" if self.value else types
        return f"{what}{shown} per user within {self.window_seconds / 3600:.4g} h"


@dataclass(frozen=True, kw_only=True)
class Status:
    """State of an experiment."""

    experiment: ExperimentRecord
    metric: str
    exposed: tuple[int, int]
    """Users that had an answer, of the served bundle and the challenger."""
    complete: tuple[int, int]
    """Those with a window that is over."""
    switched: int
    """Users that had answers of both; they count for the first."""
    means: tuple[float, float]
    difference: Interval | None
    explained: float
    """Share of the variance that the users' past takes away (CUPED)."""
    ratio: SampleRatio
    rails: list[RailCheck] = field(default_factory=list)
    coverage: Coverage | None = None
    preference: Interval | None = None
    """Of interleaved answers: mean preference of a user, -1 for the served bundle to 1 for the challenger."""
    preferring: int = 0
    """Users with a preference."""
    verdict: Verdict

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


def logged_status(settings: Settings, experiment: ExperimentRecord) -> Status:
    """Return the state of an experiment by the log of answers; see :func:`status_of`."""
    return status_of(settings, experiment, logged_answers(settings, int(experiment.started_at.timestamp() * 1e6)))


def status_of(settings: Settings, experiment: ExperimentRecord, answers: pa.Table, now_us: int | None = None) -> Status:
    """Return the state of an experiment, as of now or of its end.

    Each user counts once, for the bundle of the first answer, with what happened in the window after it, and only when the window
    is over: users come one after the other, and what is known of one does not change any more, as the intervals assume.

    Args:
        settings: of the workspace.
        experiment: what is measured.
        answers: of the two bundles since it began.
        now_us: microseconds since 1970; default: now.
    """
    wanted = ExperimentSettings.from_dict(experiment.settings)
    begin = int(experiment.started_at.timestamp() * 1e6)
    end = int(time() * 1e6) if now_us is None else now_us
    if experiment.ended_at is not None:
        end = min(end, int(experiment.ended_at.timestamp() * 1e6))
    window = int(wanted.window_seconds * 1e6)
    past = begin - PAST_DAYS * _DAY_US
    with outcomes(settings, answers, window_us=window, since_us=past, value=wanted.value) as db:
        _observe(db, experiment, wanted, begin, end, window)
        users = db.execute("SELECT * FROM observed ORDER BY first_at, subject").to_arrow_table()
        shown = [_shown(db, bundle, begin, end) for bundle in (experiment.control, experiment.challenger)]
        credits = _credits(db, experiment, wanted, begin, end)
    return _status(experiment, wanted, users, shown, credits)


def _observe(
    db: duckdb.DuckDBPyConnection,
    experiment: ExperimentRecord,
    wanted: ExperimentSettings,
    begin: int,
    end: int,
    window: int,
) -> None:
    """Make a table ``observed``: one row for each user with the bundle of the first answer, outcome, past and rails."""
    pair = f"({literal(experiment.control)}, {literal(experiment.challenger)})"
    types = ", ".join(literal(each) for each in wanted.outcome)
    amount = "coalesce(sum(e.value), 0.0)" if wanted.value else "count(e.number)::DOUBLE"
    counted = "number IN (SELECT number FROM credited)" if wanted.only_shown else "true"
    db.execute(
        f"""CREATE TABLE exposed AS
        SELECT subject, min(moment) AS first_at, arg_min(bundle, moment) AS bundle, count(DISTINCT bundle) > 1 AS switched
        FROM answers WHERE bundle IN {pair} AND moment >= {begin} AND moment < {end} AND len(teams) = 0 GROUP BY subject"""
    )
    # An event of a visitor without an id belongs to the session of the answer that it names.
    db.execute(
        f"""CREATE TABLE done AS
        SELECT e.* EXCLUDE (subject), coalesce(a.subject, e.subject) AS subject
        FROM (SELECT * FROM events WHERE type IN ({types}) AND {counted}) AS e
        LEFT JOIN (SELECT DISTINCT request_id, subject FROM answers) AS a ON e.answer = a.request_id"""
    )
    db.execute(
        f"""CREATE TABLE observed AS
        WITH after AS (
            SELECT x.subject, {amount} AS outcome FROM exposed AS x LEFT JOIN done AS e
            ON e.subject = x.subject AND e.moment >= x.first_at AND e.moment < x.first_at + {window} GROUP BY x.subject
        ), before AS (
            SELECT x.subject, {amount} AS past FROM exposed AS x LEFT JOIN events AS e
            ON e.subject = x.subject AND e.type IN ({types}) AND e.moment < {begin} GROUP BY x.subject
        ), rails AS (
            SELECT x.subject, avg(a.milliseconds) AS milliseconds, avg(a.degraded::DOUBLE) AS degraded
            FROM exposed AS x JOIN answers AS a ON a.subject = x.subject AND a.bundle = x.bundle
            AND a.moment >= x.first_at AND a.moment < x.first_at + {window} AND len(a.teams) = 0 GROUP BY x.subject
        )
        SELECT x.*, x.first_at + {window} <= {end} AS complete, outcome, past, milliseconds, degraded
        FROM exposed AS x JOIN after USING (subject) JOIN before USING (subject) JOIN rails USING (subject)"""
    )


def _shown(db: duckdb.DuckDBPyConnection, bundle: str, begin: int, end: int) -> list[int]:
    """Return how often each item was shown by a bundle."""
    rows = db.execute(
        f"SELECT count(*) FROM impressions WHERE bundle = {literal(bundle)} AND team = '' "
        f"AND moment >= {begin} AND moment < {end} GROUP BY item"
    )
    return [row[0] for row in rows.fetchall()]


def _credits(
    db: duckdb.DuckDBPyConnection, experiment: ExperimentRecord, wanted: ExperimentSettings, begin: int, end: int
) -> npt.NDArray[np.float64]:
    """Return the credits of both bundles by user, from interleaved answers ``[users, 2]``."""
    types = ", ".join(literal(each) for each in wanted.outcome)
    teams = (experiment.control, experiment.challenger)
    sums = ", ".join(f"count(*) FILTER (team = {literal(team)})" for team in teams)
    rows = db.execute(
        f"SELECT {sums} FROM credited WHERE team != '' AND type IN ({types}) AND shown_at >= {begin} AND shown_at < {end} "
        f"GROUP BY subject ORDER BY min(shown_at), subject"
    )
    return np.array(rows.fetchall(), np.float64).reshape(-1, 2)


def _status(
    experiment: ExperimentRecord,
    wanted: ExperimentSettings,
    users: pa.Table,
    shown: Sequence[Sequence[int]],
    credits: npt.NDArray[np.float64],
) -> Status:
    treated = np.array(users["bundle"].to_pylist(), object) == experiment.challenger
    complete = np.array(users["complete"].to_pylist(), np.bool_)
    arms = (complete & ~treated, complete & treated)
    outcome, past = (np.array(users[name].to_pylist(), np.float64) for name in ("outcome", "past"))
    control, challenger = (Arm.of(outcome[arm], past[arm]) for arm in arms)
    exposed = (int((~treated).sum()), int(treated.sum()))
    lacking = Readiness().lacking(control, challenger)
    effect = None if lacking else Effect.of(control, challenger)
    difference = None if effect is None else effect.interval(ConfidenceSequence(tightest_at=wanted.users))
    percent = experiment.percent / 100
    ratio = SampleRatio.of(exposed, (1 - percent, percent))
    rails = _rails(users, arms, wanted.users)
    places = min(sum(each) for each in shown)
    covered = coverage(*shown) if places >= _COVERAGE_PLACES else None
    broken = [each.said for each in rails if each.broken]
    if covered is not None and covered.broken:
        broken.append(covered.said)
    means = tuple(float(arm.mean) if arm.users else 0.0 for arm in (control, challenger))
    preferred = preferences(credits[:, 0], credits[:, 1])
    verdict = judge(
        Evidence(
            control=experiment.control,
            challenger=experiment.challenger,
            metric=wanted.metric,
            control_mean=means[0],
            difference=difference,
            lacking=lacking,
            ratio=ratio,
            broken=broken,
            margin=wanted.margin,
        )
    )
    return Status(
        experiment=experiment,
        metric=wanted.metric,
        exposed=exposed,
        complete=(int(arms[0].sum()), int(arms[1].sum())),
        switched=int(np.array(users["switched"].to_pylist(), np.bool_).sum()),
        means=(means[0], means[1]),
        difference=difference,
        explained=0.0 if effect is None else float(effect.explained),
        ratio=ratio,
        rails=rails,
        coverage=covered,
        preference=ConfidenceSequence(tightest_at=wanted.users).of_mean(preferred) if len(preferred) >= 30 else None,
        preferring=len(preferred),
        verdict=verdict,
    )


def _rails(users: pa.Table, arms: Sequence[npt.NDArray[np.bool_]], tightest_at: int) -> list[RailCheck]:
    """Return the state of latency and degraded answers, where there are enough users with them."""
    checks = []
    kinds = ((LATENCY, "milliseconds"), (DEGRADED, "degraded"))
    for rail, column in kinds:
        values = np.array([np.nan if v is None else v for v in users[column].to_pylist()], np.float64)
        known = [values[arm & ~np.isnan(values)] for arm in arms]
        if min(len(each) for each in known) >= Readiness().users:
            control, challenger = (Arm.of(each) for each in known)
            checks.append(check_rail(rail, control, challenger, len(kinds), tightest_at))
    return checks
