"""Online equals offline: after any sequence of events, the rows that events made are those that a materialisation writes."""

import random
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from rf_platform.data.event_log import Event

DAY = 24 * 3600 * 1_000_000
T0 = int(datetime(2024, 1, 20, 10, tzinfo=UTC).timestamp()) * 1_000_000


def random_events(shop: Any, event: Callable[..., Event], count: int, seed: int) -> list[Event]:
    """Late ones, ties, several in one second, doubles of imported ones, new users, more than the history keeps."""
    rng = random.Random(seed)
    imported = pq.read_table(shop.interactions).to_pylist()
    events = []
    moment = T0
    for number in range(count):
        user = rng.choice([*range(1, 13), 101, 102, 103])
        kind = rng.random()
        moment += rng.choice([0, 1, 250_000, 1_000_000, 60_000_000])
        row = rng.choice(imported)
        if kind < 0.15:
            when = rng.randrange(T0 - 40 * DAY, moment)  # late
        elif kind < 0.25:
            when = int(row["event_timestamp"].timestamp()) * 1_000_000 + rng.choice(
                [0, 400_000]
            )  # beside an imported one
        else:
            when = moment
        if kind < 0.05:
            user, item, when = row["user_id"], row["item_id"], int(row["event_timestamp"].timestamp()) * 1_000_000
        else:
            item = rng.randrange(100, 130)
        rating = {} if rng.random() < 0.3 else {"rating": rng.choice([1.0, 2.5, 0.1])}
        values = rating if rng.random() < 0.8 else {**rating, "event_type": "click"}
        events.append(event(seed * 10_000 + number, user, item, when, **values))
    return events


@pytest.mark.parametrize("seed", [1, 2])
def test_rows_equal_those_of_a_materialisation(shop: Any, event: Callable[..., Event], seed: int) -> None:
    from rf_platform.features.materialize import materialize

    users = [*range(1, 13), 101, 102, 103]
    log, history = shop.log, shop.history()
    state = log.state()
    done = log.head()
    log.append([random_events(shop, event, 150, seed)])
    rebuilt = 0
    rng = random.Random(seed)
    while batch := log.read(done, rng.choice([1, 3, 20, 60])):
        rebuilt += history.apply(batch).rebuilt
        done = batch[-1].sequence
    assert log.advance(state, done)
    assert 0 < rebuilt < 100  # both ways were taken
    incremental = shop.online(users)
    assert shop.seen(users) == shop.expected_seen(users)
    materialize(shop.settings)
    np.testing.assert_equal(incremental, shop.online(users))
    assert shop.seen(users) == shop.expected_seen(users)
    assert any(len(row["item_ids"]) == 8 for row in incremental.values())


def test_applying_again_changes_nothing(shop: Any, event: Callable[..., Event]) -> None:
    """A leader that died may have written a batch without noting it."""
    log, history = shop.log, shop.history()
    done = log.head()
    log.append([[event(90_000 + n, 104, 100 + n, T0 + n * 400_000) for n in range(5)]])
    batch = log.read(done, 100)
    history.apply(batch)
    once = shop.online([104])
    assert once[104]["item_ids"] == [100, 101, 102, 103, 104]
    history.apply(batch, again=True)
    np.testing.assert_equal(shop.online([104]), once)


def test_without_tables_it_is_as_good_as_the_row_can_tell(shop: Any, event: Callable[..., Event]) -> None:
    log, history = shop.log, shop.history(tables=False)
    done = log.head()
    times = [T0, T0 + 5_000_000, T0 + 2_000_000, T0 + 2_300_000, T0 + 5_100_000]
    log.append([[event(91_000 + n, 105, 100 + n, when) for n, when in enumerate(times)]])
    batch = log.read(done, 100)
    history.apply(batch[:3])
    history.apply(batch[3:])
    assert shop.online([105])[105]["item_ids"] == [100, 102, 103, 101, 104]
    history.apply(batch, again=True)
    assert shop.online([105])[105]["item_ids"] == [100, 102, 103, 101, 104]


def test_an_event_of_a_clock_that_runs_ahead_is_materialised(shop: Any, event: Callable[..., Event]) -> None:
    from rf_platform.features.materialize import materialize

    log = shop.log
    state = log.state()
    log.append([[event(92_000, 106, 100, int((time.time() + 50) * 1e6))]])
    assert log.advance(state, log.head())
    materialize(shop.settings)
    assert shop.online([106])[106]["item_ids"] == [100]
