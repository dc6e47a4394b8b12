"""Counts of the log against brute force in plain Python: of tables, files and SQL together, and of events that come in."""

from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event as Flag
from time import monotonic, sleep
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from rf_platform.data.event_log import Event, EventLog, EventParts, seal
from rf_platform.features.event_weights import EventWeights
from rf_platform.features.meanings import MeaningRule
from rf_platform.settings import Settings
from rf_serving.event_counts.co_occurrence import ITEMS_OF_USER, SHRINKAGE, CoOccurrence
from rf_serving.event_counts.counts import EventCounts
from rf_serving.event_counts.counts_wanted import CountOf, FirstOf
from rf_serving.event_counts.decayed import DecayedCounts
from rf_serving.event_counts.follower import CountFollower, log_source
from rf_serving.event_counts.whole_log import whole_log

HOUR_US = 3_600_000_000
RULES = (MeaningRule(meaning="unwanted", field="rating", below=3.0),)
WANTED, CLICKS = CountOf(half_life_us=48 * HOUR_US), CountOf(half_life_us=5 * HOUR_US, event_types=("click",))
BY_TYPE = CountOf(half_life_us=48 * HOUR_US, weights=EventWeights(types=(("buy", 2.75), ("seen it", 9.0))))
BY_RATING = CountOf(half_life_us=48 * HOUR_US, event_types=("buy", "click"), weights=EventWeights(column="rating"))
FIRST, FIRST_CLICK = FirstOf(), FirstOf(event_types=("click",))
ALL: list[CountOf | FirstOf] = [WANTED, CLICKS, BY_TYPE, BY_RATING, FIRST, FIRST_CLICK]


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory, write_tables: Callable[..., None]) -> Settings:
    """A workspace with tables, events in files and events in SQL."""
    home = tmp_path_factory.mktemp("counts")
    write_tables(home / "tables", users=12, items=30, events=6)
    settings = Settings(home=home)
    log = EventLog.open(settings)
    log.append([events_of(0, 40)])
    seal(settings)
    log.append([events_of(40, 60)])
    log.close()
    return settings


def events_of(first: int, last: int, start: int = 1_704_500_000_000_000) -> list[Event]:
    draw = np.random.default_rng(5)
    drawn = [draw.integers(0, 2**31, 5).tolist() for _ in range(last)]
    return [
        Event(
            event_id=f"e{number}",
            user_id=str(1 + user % 15),
            item_id=str(100 + item % 35),
            timestamp_us=start + time % (200 * HOUR_US) * 1000 % (400 * HOUR_US),
            values={
                "event_type": ("click", "buy")[kind % 2],
                **({"rating": float(rating % 5 + 1)} if kind % 3 else {}),
            },
        )
        for number, (user, item, time, kind, rating) in enumerate(drawn[first:], first)
    ]


@pytest.fixture
def counts(settings: Settings) -> EventCounts:
    return EventCounts(RULES, "int64", ALL)


@pytest.fixture
def log(settings: Settings) -> Iterator[EventLog]:
    log = EventLog.open(settings)
    yield log
    log.close()


def begin(counts: EventCounts, settings: Settings, log: EventLog, tables: Path | None = None) -> EventCounts:
    table = (tables or settings.workspace.tables) / "interactions.parquet"
    parts = EventParts(settings.workspace.events)
    with whole_log(log, parts, table, RULES, whole_ids=True, clock=True) as whole:
        counts.begin(whole)
    return counts


def rows_of(settings: Settings, last: int, *, tables: bool = True) -> list[tuple[str, int, int, str, float | None]]:
    """User, item, time, type and rating of all interactions, in the order of the log."""
    table = pq.read_table(settings.workspace.tables / "interactions.parquet")
    rows = sorted(table.to_pylist(), key=lambda row: (row["event_timestamp"], row["input_order"]))
    found = [
        (str(r["user_id"]), r["item_id"], round(r["event_timestamp"].timestamp() * 1e6), r["event_type"], r["rating"])
        for r in rows
    ]
    logged = [
        (e.user_id, int(e.item_id), e.timestamp_us, e.values["event_type"], e.values.get("rating"))
        for e in events_of(0, last)
    ]
    return (found if tables else []) + logged


def brute(rows: list[Any], of: CountOf | FirstOf) -> dict[int, float]:
    def weight(kind: str, rating: float | None) -> float:
        weights = None if isinstance(of, FirstOf) else of.weights
        if weights is not None and weights.column:
            return 1.0 if rating is None else rating
        return dict(weights.types).get(kind, 1.0) if weights is not None else 1.0

    wanted = [row for row in rows if (row[3] in of.event_types if of.event_types else row[4] is None or row[4] >= 3)]
    chosen = [(item, time, weight(kind, rating)) for _, item, time, kind, rating in wanted]
    total: dict[int, float] = defaultdict(float)
    if isinstance(of, FirstOf):
        return {item: min(time for each, time, _ in chosen if each == item) for item, _, _ in chosen}
    newest = max(time for _, time, _ in chosen)
    for item, time, each in chosen:
        total[item] += each * 0.5 ** ((newest - time) / of.half_life_us)
    return total


def agree(counts: EventCounts, rows: list[Any]) -> None:
    counted = counts.counted()
    for of, scores in counted.by.items():
        expected = {item: score for item, score in brute(rows, of).items() if score > 1e-18}  # older ones are forgotten
        found = {item: score for item, score in zip(counted.ids, scores.tolist(), strict=False) if score > 1e-18}
        assert found.keys() == expected.keys()
        assert [found[item] for item in expected] == pytest.approx(list(expected.values()), rel=4e-4)


def test_all_interactions_and_those_that_come_in_are_counted_as_by_hand(
    counts: EventCounts, settings: Settings, log: EventLog
) -> None:
    begin(counts, settings, log)
    assert counts.position == 60
    agree(counts, rows_of(settings, 60))
    log.append([events_of(60, 90)])
    counts.add(log.read(60, 1000))
    agree(counts, rows_of(settings, 90))
    again = begin(EventCounts(RULES, "int64", ALL), settings, log)
    assert again.position == counts.position == 90
    for of in ALL:  # to the last bit, whichever process began when
        ours, theirs = (
            dict(zip(each.ids, each.by[of].tolist(), strict=True)) for each in (counts.counted(), again.counted())
        )
        assert ours == theirs
    for item in range(100, 130):
        (ids, likeness), (others, theirs_) = (each.counted().together.like([item]) for each in (counts, again))
        assert dict(zip(ids, likeness.tolist(), strict=True)) == dict(zip(others, theirs_.tolist(), strict=True))


@pytest.mark.parametrize("lists", [[], [CLICKS, FIRST]])
def test_nothing_is_counted_before_something_needs_it(settings: Settings, lists: list[CountOf | FirstOf]) -> None:
    looked = Flag()

    def wanted() -> list[CountOf | FirstOf]:
        looked.set()
        return lists

    spec: Any = SimpleNamespace(meanings=RULES, item=SimpleNamespace(id_type="int64"))
    follower = CountFollower(log_source(settings))
    follower.follow(lambda: spec, wanted)
    try:
        assert looked.wait(20)
        if not lists:
            follower._thread.join(0.1)  # type: ignore[union-attr]
            assert follower.counted is None
            assert follower.ask() is None
        until = monotonic() + 30
        while follower.counted is None and monotonic() < until:
            sleep(0.01)
        assert follower.counted is not None
        assert list(follower.counted.by) == lists
    finally:
        follower.close()


def test_without_tables_the_events_are_counted(
    counts: EventCounts, settings: Settings, log: EventLog, tmp_path: Path
) -> None:
    begin(counts, settings, log, tables=tmp_path)
    agree(counts, rows_of(settings, counts.position, tables=False))


def test_the_order_of_events_makes_no_difference_and_old_ones_are_forgotten() -> None:
    draw = np.random.default_rng(0)
    items, times = draw.integers(0, 9, 500), draw.integers(0, 300 * HOUR_US, 500)
    sums = []
    for order in (np.arange(500), draw.permutation(500), np.argsort(times)[::-1]):
        counts = DecayedCounts(HOUR_US)
        for some in np.array_split(order, 7):
            counts.add(items[some], times[some])
        sums.append(counts.counts(9).tolist())
    assert sums[0] == sums[1] == sums[2]
    counts = DecayedCounts(HOUR_US)
    counts.add(np.array([1]), np.array([0]))
    counts.add(np.array([2]), np.array([70 * HOUR_US]))
    assert counts.counts(3).tolist() == pytest.approx([0, 0, 1], abs=1e-4)


def test_items_of_the_same_users_go_together() -> None:
    together = CoOccurrence()
    together.add([("a", 1), ("b", 1), ("a", 2), ("b", 2), ("c", 2), ("a", 3), ("a", 1)])
    ids, likeness = together.like([1])
    assert dict(zip(ids, likeness.tolist(), strict=True)) == pytest.approx(
        {2: 2 / (6**0.5 + SHRINKAGE), 3: 1 / (2**0.5 + SHRINKAGE)}
    )
    ids, likeness = together.like([1, 3])  # the mean of both
    assert dict(zip(ids, likeness.tolist(), strict=True))[2] == pytest.approx(
        (2 / (6**0.5 + SHRINKAGE) + 1 / (3**0.5 + SHRINKAGE)) / 2
    )
    together.add([("a", 100 + number) for number in range(ITEMS_OF_USER)])
    assert together.like([3])[0] == []  # it is not among the latest items of its only user any more
    assert together.like([77])[0] == []


def test_an_event_counts_as_much_as_its_weight_and_nothing_at_weight_0() -> None:
    values: list[dict[str, Any]] = [
        {"event_type": "buy"},
        {"event_type": "view", "rating": 2.346},
        {"rating": 1e9},
        {"rating": float("nan")},
    ]
    by_type = CountOf(half_life_us=HOUR_US, weights=EventWeights(types=(("buy", 5.0), ("view", 0.0))))
    assert by_type.parts_of(values).tolist() == [500, 0, 100, 100]
    by_rating = CountOf(half_life_us=HOUR_US, weights=EventWeights(column="rating"))
    assert by_rating.parts_of(values).tolist() == [100, 235, 100_000, 100]
    counts = DecayedCounts(HOUR_US)
    counts.add(np.array([0, 1, 0]), np.array([HOUR_US, 9 * HOUR_US, 2 * HOUR_US]), np.array([500, 0, 100]))
    assert counts.counts(2).tolist() == pytest.approx([5 / 2 + 1, 0])  # the one that counts nothing ages nothing
