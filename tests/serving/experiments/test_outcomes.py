"""Events are credited to the answers that had shown their items."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rf_platform.data.event_log import seal
from rf_platform.data.event_log.event import ANSWER
from rf_platform.errors import UsageError
from rf_platform.settings import Settings
from rf_serving.experiments.outcomes import outcomes, report

from .conftest import HOUR, answers, moment

Record = Callable[..., None]
VIEW, BUY = {"event_type": "view"}, {"event_type": "purchase"}


def credited(settings: Settings, shown: pa.Table, **options: Any) -> list[tuple[Any, ...]]:
    given = {"window_us": 24 * HOUR, "since_us": moment(-1000), **options}
    with outcomes(settings, shown, **given) as db:
        rows: list[tuple[Any, ...]] = db.execute(
            "SELECT item, type, request_id, place FROM credited ORDER BY moment, number"
        ).fetchall()
    return rows


def test_an_event_belongs_to_the_latest_answer_that_had_shown_its_item(
    settings: Settings, record_events: Record
) -> None:
    shown = answers(
        {"subject": "user:1", "moment": moment(0), "items": ["a", "b"]},
        {"subject": "user:1", "moment": moment(2), "items": ["b", "c"]},
        {"subject": "user:2", "moment": moment(3), "items": ["a", "b"]},
    )
    record_events(
        ("1", "a", 1, VIEW),
        ("1", "b", 3, BUY),  # shown twice: the latest
        ("1", "a", 25, VIEW),  # after the window
        ("1", "z", 3, VIEW),  # never shown
        ("1", "c", 1, VIEW),  # before it was shown
        ("3", "a", 4, VIEW),  # another user
    )
    assert credited(settings, shown) == [("a", "view", "r0", 1), ("b", "purchase", "r1", 1)]


def test_an_event_that_names_its_answer_belongs_to_it(settings: Settings, record_events: Record) -> None:
    shown = answers(
        {"subject": "user:1", "moment": moment(0), "items": ["a", "b"]},
        {"subject": "user:1", "moment": moment(2), "items": ["b", "a"]},
        {"subject": "session:x", "moment": moment(2), "items": ["c"]},
    )
    record_events(
        ("1", "a", 3, {**VIEW, ANSWER: "r0"}),
        ("9", "c", 3.5, {**BUY, ANSWER: "r2"}),  # a visitor who has become a user
        ("1", "b", 4, {**BUY, ANSWER: "lost"}),  # its answer is not in the log
        ("1", "b", 200, {**BUY, ANSWER: "r0"}),  # named: however late
    )
    assert credited(settings, shown) == [
        ("a", "view", "r0", 1),
        ("c", "purchase", "r2", 1),
        ("b", "purchase", "r1", 1),
        ("b", "purchase", "r0", 2),
    ]


def test_the_report_counts_by_what_was_asked_for(settings: Settings, record_events: Record) -> None:
    shown = answers(
        {"subject": "user:1", "moment": moment(0), "items": ["a", "b"]},
        {"subject": "user:2", "moment": moment(0), "items": ["a", "b"], "bundle": "new", "placement": "basket"},
        {"subject": "user:3", "moment": moment(0), "items": ["b", "a"], "bundle": "new", "placement": "basket"},
    )
    record_events(
        ("1", "a", 1, {**BUY, "rating": 2.5}),
        ("2", "b", 1, {**BUY, "rating": 4.0}),
        ("3", "b", 1, {**VIEW, "rating": 1.0}),
    )
    with outcomes(settings, shown, window_us=HOUR * 24, since_us=0, value="rating") as db:
        found = report(db, ["bundle"])
        places = report(db, ["place"])
        with pytest.raises(UsageError, match="no such column; give some of bundle"):
            report(db, ["colour"])
    assert found.types == ("purchase", "view")
    assert [(r["bundle"], r["answers"], r["impressions"], r["value"], r["outcomes"]) for r in found.rows] == [
        ("new", 2, 4, 5.0, {"purchase": 1, "view": 1}),
        ("old", 1, 2, 2.5, {"purchase": 1, "view": 0}),
    ]
    assert [(r["place"], sum(r["outcomes"].values())) for r in places.rows] == [(1, 2), (2, 1)]
    assert (found.events, found.credited) == (3, 3)


def test_sealed_events_and_imported_ones_count_once(settings: Settings, record_events: Record, tmp_path: Path) -> None:
    shown = answers({"subject": "user:1", "moment": moment(0), "items": ["1", "2", "3"]})
    record_events(("1", "1", 1, {**BUY, ANSWER: "r0"}))
    seal(settings)
    record_events(("1", "2", 2, BUY))
    pq.write_table(
        pa.table(
            {
                "user_id": [1, 1],
                "item_id": [2, 3],  # the first one was recorded, too
                "event_timestamp": pa.array([moment(2), moment(3)], pa.int64()).cast(pa.timestamp("us", tz="UTC")),
                "event_type": ["purchase", "purchase"],
            }
        ),
        settings.workspace.tables / "interactions.parquet",
    )
    assert [row[0] for row in credited(settings, shown)] == ["1", "2", "3"]


def test_a_column_without_numbers_is_no_value(settings: Settings, record_events: Record) -> None:
    record_events(("1", "1", 1, BUY))
    with pytest.raises(UsageError, match="--value=price: the interactions have no such column"):
        credited(settings, answers({"subject": "user:1", "moment": moment(0), "items": ["1"]}), value="price")


def test_no_events_at_all(settings: Settings) -> None:
    shown = answers({"subject": "user:1", "moment": moment(0), "items": ["1"]})
    with outcomes(settings, shown, window_us=HOUR, since_us=0) as db:
        found = report(db, ["bundle", "place"])
    assert [(row["impressions"], row["outcomes"]) for row in found.rows] == [(1, {})]
