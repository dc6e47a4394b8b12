"""Estimate of a bundle before it answers anybody: by the drawn items of logged answers."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from time import time
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from rf_platform.effects import (
    FOLDS,
    NOT_SHOWN,
    DrawnItems,
    Interval,
    OffPolicy,
    contrast,
    estimate,
    examination_by_place,
    item_rates,
)
from rf_platform.errors import NotFoundError
from rf_platform.registry import BundleRecord, Registry, fetched
from rf_platform.settings import Settings
from rf_platform.sql import literal
from rf_serving.experiments.answers import SESSION, USER, log_relation, logged_answers
from rf_serving.experiments.outcomes import outcomes
from rf_serving.experiments.slates import slates

MOST_ANSWERS = 20_000
"""Answers that are ranked anew, the latest ones."""


@dataclass(frozen=True, kw_only=True)
class BundleEstimate:
    """Value of a bundle beside the served one, in outcomes per answer; or why there is none."""

    bundle: str
    served_name: str
    placement: str
    answers: int
    users: int
    drawn: int
    outcomes: int
    """On drawn items."""
    challenger: OffPolicy | None = None
    served: OffPolicy | None = None
    difference: Interval | None = None
    """Doubly robust, on the same draws: the bundle less the served one."""
    refused: str = ""

    @property
    def sentence(self) -> str:
        """The estimate in words."""
        if self.refused or self.challenger is None or self.difference is None:
            return f"No estimate of {self.bundle}: {self.refused}."
        value, change = self.challenger.dr, self.difference
        text = (
            f"{self.bundle} would earn {value.value:.4f} [{value.low:.4f}, {value.high:.4f}] outcomes an answer, "
            f"{change.value:+.4f} [{change.low:+.4f}, {change.high:+.4f}] beside {self.served_name}: "
        )
        if change.low > 0:
            return f"{text}better."
        return f"{text}{'worse' if change.high < 0 else 'which of the two is better is not known'}."

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {**asdict(self), "sentence": self.sentence}


def estimate_bundle(
    settings: Settings,
    registry: Registry,
    name: str,
    *,
    outcome: Sequence[str],
    placement: str = "",
    window_seconds: float = 86_400.0,
    days: float = 28.0,
) -> BundleEstimate:
    """Estimate the value of a bundle by the drawn items of the served bundle's answers.

    Args:
        settings: of the workspace.
        registry: of the workspace.
        name: the bundle.
        outcome: types of events that count.
        placement: of the answers; empty: the one with most drawn items.
        window_seconds: longest time from an answer to an event that is credited to it.
        days: age of the oldest answer.

    Raises:
        NotFoundError: there is no such bundle, or nothing is served.
        UsageError: the bundle reads features that are not logged.
    """
    challenger, served = fetched(registry, registry.bundle(name)), registry.active_bundle()
    if served is None:
        raise NotFoundError(
            "no bundle is served, so nothing was answered; run `rf promote` and `rf serve --log-share 1`"
        )
    since = int((time() - days * 86_400) * 1e6)
    answers = logged_answers(settings, since)
    with outcomes(settings, answers, window_us=int(window_seconds * 1e6), since_us=since) as db:
        placement = placement or _placement(db, served.name)
        places = _places(db, served.name, placement, outcome)
    log = _Log.of(places)
    counts: dict[str, Any] = {
        "bundle": name,
        "served_name": served.name,
        "placement": placement,
        "answers": len(log.requests),
        "users": len(set(log.subjects)),
        "drawn": int(log.drawn.sum()),
        "outcomes": int(log.reward[log.drawn].sum()),
    }
    if not log.drawn.any():
        why = (
            f"the serving log has no answer of {served.name} with items drawn at random; give a placement `exploration` "
            f"(docs/policies.md), and serve with --log-share"
        )
        return BundleEstimate(**counts, refused=why)
    records = _records(settings, since, log.requests)
    made = [_drawn(settings, registry, record, placement, log, records) for record in (challenger, served)]
    curve = log.examination
    values = [estimate(each, curve) for each in made]
    return BundleEstimate(
        **counts,
        challenger=values[0],
        served=values[1],
        difference=contrast(made[0], made[1], curve),
        refused=values[0].refused,
    )


def _placement(db: duckdb.DuckDBPyConnection, bundle: str) -> str:
    row = db.execute(
        f"SELECT placement FROM impressions WHERE bundle = {literal(bundle)} AND propensity > 0 GROUP BY placement "
        f"ORDER BY count(*) DESC, placement LIMIT 1"
    ).fetchone()
    return row[0] if row else ""


def _places(db: duckdb.DuckDBPyConnection, bundle: str, placement: str, outcome: Sequence[str]) -> pa.Table:
    """Return the places of the latest answers: request, subject, item, place, propensity, and whether the outcome followed."""
    types = ", ".join(literal(each) for each in outcome)
    return db.execute(
        f"""WITH chosen AS (
            SELECT request_id FROM answers WHERE bundle = {literal(bundle)} AND placement = {literal(placement)}
            AND NOT degraded AND len(teams) = 0 ORDER BY moment DESC LIMIT {MOST_ANSWERS}
        )
        SELECT i.request_id, i.subject, i.item, i.place - 1 AS place, i.propensity,
               (EXISTS (SELECT 1 FROM credited AS c WHERE c.request_id = i.request_id AND c.place = i.place
                AND c.type IN ({types})))::DOUBLE AS reward
        FROM impressions AS i JOIN chosen USING (request_id) ORDER BY i.moment, i.request_id, i.place"""
    ).to_arrow_table()


def _records(settings: Settings, since: int, requests: Sequence[str]) -> pa.Table:
    """Return the records of answers with their features, in order."""
    relation = log_relation(settings, since)
    with duckdb.connect() as db:
        db.register("wanted", pa.table({"request_id": requests, "number": range(len(requests))}))
        return db.execute(
            f"SELECT r.* FROM {relation} AS r JOIN wanted USING (request_id) ORDER BY number"
        ).to_arrow_table()


@dataclass(frozen=True, eq=False, kw_only=True)
class _Log:
    """Places of logged answers as arrays, one row for each place."""

    requests: list[str]
    subjects: list[str]
    """Of each answer."""
    answer: npt.NDArray[np.int64]
    item: npt.NDArray[np.object_]
    place: npt.NDArray[np.int64]
    propensity: npt.NDArray[np.float64]
    reward: npt.NDArray[np.float64]

    @classmethod
    def of(cls, places: pa.Table) -> "_Log":
        requests = places["request_id"].to_pylist()
        number = {request: at for at, request in enumerate(dict.fromkeys(requests))}
        subjects = dict(zip(requests, places["subject"].to_pylist(), strict=True))
        return cls(
            requests=list(number),
            subjects=[subjects[request] for request in number],
            answer=np.array([number[request] for request in requests], np.int64),
            item=np.array(places["item"].to_pylist(), object),
            place=places["place"].to_numpy().astype(np.int64),
            propensity=places["propensity"].to_numpy().astype(np.float64),
            reward=places["reward"].to_numpy().astype(np.float64),
        )

    @property
    def drawn(self) -> npt.NDArray[np.bool_]:
        """Places of drawn items."""
        return self.propensity > 0

    @property
    def user(self) -> npt.NDArray[np.int64]:
        """Number of the subject of each answer."""
        return np.unique(np.array(self.subjects, object).astype(str), return_inverse=True)[1].astype(np.int64)

    @property
    def examination(self) -> npt.NDArray[np.float64]:
        """Examination by place."""
        return examination_by_place(self.place[self.drawn], self.reward[self.drawn], int(self.place.max()) + 1)


def _drawn(
    settings: Settings, registry: Registry, record: BundleRecord, placement: str, log: _Log, records: pa.Table
) -> DrawnItems:
    """Hold the drawn items against what a bundle would have shown."""
    subjects = [each.removeprefix(USER).removeprefix(SESSION) for each in log.subjects]
    shown = slates(settings, registry, record, placement, subjects, records)
    at = {(answer, item): place for answer, items in enumerate(shown) for place, item in enumerate(items)}
    drawn, curve, user = log.drawn, log.examination, log.user
    answer_D, item_D = log.answer[drawn], log.item[drawn]
    target_D = np.array(
        [at.get(pair, NOT_SHOWN) for pair in zip(answer_D.tolist(), item_D.tolist(), strict=True)], np.int64
    )
    # Rates of items, and the sum over what the bundle would show, by a model that has not seen the user.
    number = {item: n for n, item in enumerate({*log.item.tolist(), *(item for items in shown for item in items)})}
    fold = user % FOLDS
    coded = np.array([number[item] for item in log.item.tolist()], np.int64)
    rates = item_rates(coded, log.reward, curve[log.place], fold[log.answer], len(number))
    longest = max(len(items) for items in shown)
    looked = np.append(curve, np.repeat(curve[-1], max(0, longest - len(curve))))
    predicted_A = np.array(
        [
            sum(rates[fold[answer], number[item]] * looked[place] for place, item in enumerate(items))
            for answer, items in enumerate(shown)
        ]
    )
    return DrawnItems(
        user_A=user,
        size_A=np.array([len(items) for items in shown], np.int64),
        answer_D=answer_D,
        place_D=log.place[drawn],
        target_D=target_D,
        propensity_D=log.propensity[drawn],
        reward_D=log.reward[drawn],
        predicted_D=rates[fold[answer_D], coded[drawn]] * looked[np.maximum(target_D, 0)],
        predicted_A=predicted_A,
    )
