"""State of an experiment on users with known outcomes."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from rf_platform.data.event_log.event import ANSWER
from rf_platform.effects import Finding
from rf_platform.errors import UsageError
from rf_platform.registry import ExperimentRecord
from rf_platform.settings import Settings
from rf_serving.experiments.split_status import ExperimentSettings, Status, status_of

from .conftest import answers, moment

Record = Callable[..., None]
USERS = 800


def world(record: Record, rate: dict[str, float], *, seed: int = 0, **changes: Any) -> pa.Table:
    """Record purchases of users that had one answer each, by the rate of their bundle; return the answers."""
    random = np.random.default_rng(seed)
    rows, events = [], []
    for user in range(USERS):
        bundle = ("old", "new")[user % 2]
        rows.append(
            {
                "subject": f"user:{user}",
                "moment": moment(user / 100),
                "bundle": bundle,
                "items": [str(each) for each in random.permutation(40)[:5]],
                **{name: change(bundle, random) for name, change in changes.items()},
            }
        )
        if random.random() < rate[bundle]:
            events.append((str(user), rows[-1]["items"][0], user / 100 + 1, {"event_type": "purchase"}))
    record(*events)
    return answers(*rows)


def test_a_better_challenger_is_found(settings: Settings, record_events: Record, experiment: ExperimentRecord) -> None:
    shown = world(record_events, {"old": 0.2, "new": 0.5})
    found = status_of(settings, experiment, shown, moment(100))
    assert found.verdict.finding is Finding.BETTER
    assert found.exposed == found.complete == (400, 400)
    assert list(found.means) == pytest.approx([0.2, 0.5], abs=0.06)
    assert found.difference is not None
    assert found.difference.low < 0.3 < found.difference.high
    assert [each.name for each in found.rails] == ["latency", "degraded share"]
    assert found.coverage is not None
    assert not found.coverage.broken


def test_users_count_when_their_window_is_over(
    settings: Settings, record_events: Record, experiment: ExperimentRecord
) -> None:
    shown = world(record_events, {"old": 0.2, "new": 0.5})
    found = status_of(settings, experiment, shown, moment(24 + 1))
    assert (found.exposed, found.complete) == ((400, 400), (51, 50))
    assert found.difference is None
    assert "50 users of the smaller bundle are complete" in found.verdict.sentence
    ended = replace(experiment, ended_at=found.experiment.started_at)
    assert status_of(settings, ended, shown, moment(1000)).exposed == (0, 0)


def test_harm_stops(settings: Settings, record_events: Record, experiment: ExperimentRecord) -> None:
    shown = world(record_events, {"old": 0.5, "new": 0.15})
    assert status_of(settings, experiment, shown, moment(100)).verdict.finding is Finding.HARM


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"milliseconds": lambda bundle, random: float(random.normal(20 if bundle == "new" else 5, 1))},
            "latency broken",
        ),
        ({"degraded": lambda bundle, random: bundle == "new" and bool(random.random() < 0.2)}, "degraded share broken"),
        (
            {"items": lambda bundle, random: [str(i) for i in random.permutation(40 if bundle == "old" else 8)[:5]]},
            "coverage broken",
        ),
    ],
    ids=["latency", "degraded", "coverage"],
)
def test_guard_rails(
    settings: Settings, record_events: Record, experiment: ExperimentRecord, change: dict[str, Any], words: str
) -> None:
    shown = world(record_events, {"old": 0.3, "new": 0.3}, **change)
    found = status_of(settings, experiment, shown, moment(100))
    assert found.verdict.finding is Finding.HARM
    assert words in found.verdict.sentence


def test_a_mismatch_of_the_sample_ratio_goes_first(
    settings: Settings, record_events: Record, experiment: ExperimentRecord
) -> None:
    shown = world(record_events, {"old": 0.2, "new": 0.5})
    found = status_of(settings, replace(experiment, percent=30.0), shown, moment(100))
    assert found.verdict.finding is Finding.INVALID


def test_what_users_did_before_is_taken_away(
    settings: Settings, record_events: Record, experiment: ExperimentRecord
) -> None:
    shown = world(lambda *events: None, {"old": 0.0, "new": 0.0})
    random = np.random.default_rng(3)
    habit = random.poisson(3, USERS)
    events = [
        (str(user), "1", -1.0 - n / 10, {"event_type": "purchase"}) for user in range(USERS) for n in range(habit[user])
    ]
    now = random.poisson(habit)
    events += [
        (str(u), "2", u / 100 + 1 + n / 100, {"event_type": "purchase"}) for u in range(USERS) for n in range(now[u])
    ]
    record_events(*events)
    found = status_of(settings, experiment, shown, moment(100))
    assert found.explained > 0.3
    assert found.means[0] == pytest.approx(now[0::2].mean())
    # Only what followed an answer that had shown the item: nothing did, for most users.
    shown_only = replace(experiment, settings={**experiment.settings, "only_shown": True})
    assert status_of(settings, shown_only, shown, moment(100)).means[0] < 0.6 * found.means[0]


def test_interleaved_answers_are_credited_to_their_bundles(
    settings: Settings, record_events: Record, experiment: ExperimentRecord
) -> None:
    rows = [
        {"subject": f"user:{u}", "moment": moment(u / 100), "items": ["a", "b"], "teams": ["new", "old"]}
        for u in range(60)
    ]
    record_events(*((str(u), "a" if u % 6 else "b", u / 100 + 1, {"event_type": "purchase"}) for u in range(60)))
    found = status_of(settings, experiment, answers(*rows), moment(100))
    assert found.exposed == (0, 0)  # users of interleaved answers are in no arm
    assert found.preferring == 60
    assert found.preference is not None
    assert found.preference.value == pytest.approx((50 - 10) / 60)


def test_sessions_count_by_the_answers_that_their_events_name(
    settings: Settings, record_events: Record, experiment: ExperimentRecord
) -> None:
    rows = [
        {"subject": f"session:{n}", "moment": moment(n / 100), "bundle": ("old", "new")[n % 2], "items": ["a"]}
        for n in range(6)
    ]
    record_events(("77", "a", 1, {"event_type": "purchase", ANSWER: "r1"}))
    found: Status = status_of(settings, experiment, answers(*rows), moment(100))
    assert list(found.means) == pytest.approx([0, 1 / 3])


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"outcome": ()}, "--outcome"),
        ({"window_seconds": 0}, "--window"),
        ({"margin": 1}, "--margin"),
        ({"users": 0}, "--users"),
    ],
)
def test_settings_that_measure_nothing(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        ExperimentSettings(**{"outcome": ("purchase",), **wrong})
