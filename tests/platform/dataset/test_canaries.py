"""Canaries on views whose leaks are planted, or are none."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest

from rf_platform.dataset.build import BuildOptions, DatasetBuilder
from rf_platform.dataset.canaries import Canary, Finding, canaries
from rf_platform.dataset.canaries.canary import Shift
from rf_platform.dataset.canaries.probe import told_apart
from rf_platform.features.read import FeatureDefinitions, ViewSource
from rf_platform.features.spec import DomainSpec, EntitySpec, FeatureSpec, FieldSpec

START = datetime(2024, 1, 1, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
USERS, ITEMS, EVENTS = 250, 40, 10
GENRES = ("Action", "Comedy", "Drama", "Horror", "War")
USER_VIEWS, ITEM_VIEWS = ("profile", "foretold", "last", "noise"), ("items", "sold_early", "sold")
Row = tuple[int, datetime, Any]


def genre(item: int) -> str:
    return GENRES[item % len(GENRES)]


def events() -> list[tuple[int, int, datetime]]:
    """Each user takes an item every 36 to 60 hours; each day another eight items are in fashion."""
    random = np.random.default_rng(0)
    fashion = [random.choice(ITEMS, 8, replace=False) for _ in range(60)]
    rows = []
    for user in range(USERS):
        at = START + DAY * float(random.uniform(0, 5))
        for _ in range(EVENTS):
            day = (at - START) // DAY
            item = int(random.choice(fashion[day]) if random.random() < 0.7 else random.integers(ITEMS))
            rows.append((user, item, at))
            at += HOUR * float(random.uniform(36, 60))
    return rows


def views(log: list[tuple[int, int, datetime]]) -> dict[str, list[Row]]:
    random = np.random.default_rng(1)
    by_day: dict[tuple[int, int], int] = {}
    for _, item, at in log:
        by_day[item, (at - START) // DAY] = by_day.get((item, (at - START) // DAY), 0) + 1
    counts = [(item, START + DAY * day, by_day.get((item, day), 0)) for day in range(60) for item in range(ITEMS)]
    return {
        "profile": [(user, START - DAY, genre(user)) for user in range(USERS)],
        # What is taken in an hour: the leak.
        "foretold": [(user, at - HOUR, genre(item)) for user, item, at in log],
        # What was taken an hour ago: right, and made of what happens.
        "last": [(user, at + HOUR, genre(item)) for user, item, at in log],
        "noise": [(user, at - HOUR * float(random.uniform(0, 40)), str(random.choice(GENRES))) for user, _, at in log],
        "items": [(item, START - DAY, genre(item)) for item in range(ITEMS)],
        # The count of a day, stamped with its beginning and with its end.
        "sold_early": counts,
        "sold": [(item, day + DAY, count) for item, day, count in counts],
    }


@pytest.fixture
def found(write: Callable[..., Path], tmp_path: Path) -> dict[str, Canary]:
    log = events()
    interactions = write(
        "interactions",
        user_id=[row[0] for row in log],
        item_id=[row[1] for row in log],
        event_timestamp=[row[2] for row in log],
        event_type=["view"] * len(log),
        input_order=list(range(len(log))),
    )
    fields, sources = [], []
    for view, rows in views(log).items():
        side = "user" if view in USER_VIEWS else "item"
        numeric = view.startswith("sold")
        name = "count" if numeric else "genre"
        values = [float(row[2]) if numeric else row[2] for row in rows]
        columns: dict[str, Any] = {f"{side}_id": [row[0] for row in rows], "ts": [row[1] for row in rows], name: values}
        path = write(view, **columns)
        fields.append(
            FieldSpec(
                view=view,
                field=name,
                side=side,  # type: ignore[arg-type]
                kind="numeric" if numeric else "categorical",
                role="feature",
                dtype="Float64" if numeric else "String",
                domain=None if numeric else "genre",
            )
        )
        sources.append(
            ViewSource(
                view=view,
                side=side,  # type: ignore[arg-type]
                path=str(path),
                join_key=f"{side}_id",
                timestamp="ts",
                created=None,
                ttl=None,
                columns={name: name},
            )
        )
    spec = FeatureSpec(
        service="test",
        user=EntitySpec(name="user", join_key="user_id", id_type="int64"),
        item=EntitySpec(name="item", join_key="item_id", id_type="int64"),
        fields=tuple(sorted(fields, key=lambda f: f.name)),
        domains=(DomainSpec(name="genre", value_type="string"),),
        history_length=5,
    )
    work = tmp_path / "work"
    work.mkdir()
    with duckdb.connect() as db:
        db.execute("SET TimeZone = 'UTC'")
        definitions = FeatureDefinitions(spec=spec, sources=tuple(sources))
        builder = DatasetBuilder(db, definitions, interactions, work, BuildOptions())
        builder.read_log()
        return {each.view: each for each in canaries(builder)}


def test_each_view_is_named_as_what_it_is(found: dict[str, Canary]) -> None:
    assert {view: canary.finding for view, canary in found.items()} == {
        "profile": Finding.STILL,
        "foretold": Finding.RECENT,
        "last": Finding.FORESEES,
        "noise": Finding.CLEAN,
        "items": Finding.STILL,
        "sold_early": Finding.RECENT,
        "sold": Finding.FORESEES,
    }
    assert [view for view, canary in found.items() if canary.finding.suspect] == ["foretold", "sold_early"]
    # The genre of the item, and of five, is all that is foretold: others of that genre are ties.
    assert found["foretold"].knows == pytest.approx(1 - (1 / 5) / 2, abs=0.05)
    assert found["noise"].knows == pytest.approx(0.5, abs=0.05)
    assert found["last"].ahead.moved == pytest.approx(0.8, abs=0.1)  # one in five genres is the same
    assert found["last"].behind.moved == 0
    assert found["profile"].ahead.value == found["profile"].behind.value == 0
    assert "this is a leak" in found["foretold"].sentence
    assert "a day behind changes nothing" in found["sold"].sentence


def test_the_finding_by_hand() -> None:
    def canary(ahead: tuple[float, float], behind: tuple[float, float], moved: float = 0.5) -> Canary:
        shifts = [
            Shift(moved=moved, value=value, low=value - half, high=value + half) for value, half in (ahead, behind)
        ]
        return Canary(view="v", fields=["f"], events=100, knows=0.6, ahead=shifts[0], behind=shifts[1])

    nothing = (0.0, 0.01)
    assert canary((0.1, 0.02), nothing).finding is Finding.FORESEES
    assert canary(nothing, (-0.1, 0.02)).finding is Finding.RECENT
    assert canary((0.1, 0.02), (-0.1, 0.02)).finding is Finding.RECENT
    assert canary((0.1, 0.2), nothing).finding is Finding.CLEAN  # by chance
    assert canary((0.001, 0.0005), nothing).finding is Finding.CLEAN  # too little to matter
    assert canary(nothing, nothing, moved=0).finding is Finding.STILL


def test_ties_count_half() -> None:
    assert told_apart(np.array([[1.0, 0.0, 1.0, 2.0], [0.0, 0.0, 0.0, 0.0]])).tolist() == [0.5, 0.5]
