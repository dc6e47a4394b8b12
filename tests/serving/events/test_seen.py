"""Seen sets of the online store: exact whatever happens to events, materialisations and processes."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

DAY = 24 * 3600 * 1_000_000
T0 = 1_705_740_000_000_000
LENGTH = 8
"""Interactions that the workspace's histories keep."""


def record(shop: Any, *events: Any) -> list[Any]:
    """Record events and return them as they are read from the log; what was there before counts as applied."""
    log = shop.log
    assert log.advance(log.state(), log.head())
    log.append([events])
    batch: list[Any] = log.read(log.state().applied, 1000)
    log.close()
    return batch


def test_it_reaches_back_to_the_beginning(shop: Any, event: Callable[..., Any]) -> None:
    """Users with no events, one, as many as the history keeps, one more and very many; most twice, some of another type."""
    counts = {401: 0, 402: 1, 403: LENGTH, 404: LENGTH + 1, 405: 300}
    events = [
        event(40_000 + 1000 * user + n, user, 100 + n % 250, T0 + n * 2_000_000, event_type="view" if n % 3 else "buy")
        for user, count in counts.items()
        for n in range(count)
    ]
    batch = record(shop, *events)
    assert shop.history().apply(batch).failed == 0
    found = shop.seen(list(counts))
    assert found == shop.expected_seen(list(counts))
    assert {user: len({item for item, _ in pairs}) for user, pairs in found.items()} == {
        user: min(count, 250) for user, count in counts.items()
    }
    assert len(shop.online([405])[405]["item_ids"]) == LENGTH


def test_an_event_too_old_for_the_history_is_seen(shop: Any, event: Callable[..., Any]) -> None:
    batch = record(shop, *(event(41_000 + n, 411, 100 + n, T0 + n * 2_000_000) for n in range(LENGTH)))
    history = shop.history()
    history.apply(batch)
    history.apply(record(shop, event(41_100, 411, 129, T0 - 900 * DAY)))
    assert 129 not in shop.online([411])[411]["item_ids"]
    assert (129, "rating") in shop.seen([411])[411]


@pytest.mark.parametrize("tables", [True, False])
@pytest.mark.parametrize("fails", ["before", "between", "after"])
def test_a_crash_between_the_writes_leaves_it_exact(
    shop: Any, event: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, fails: str, tables: bool
) -> None:
    """Of seen set and history none, one or both are written; then the events are applied again, as they are not noted."""
    from rf_serving.events.online_history import OnlineHistory
    from rf_serving.events.online_seen import OnlineSeen

    user = 420 + 2 * ["before", "between", "after"].index(fails) + tables
    history = shop.history(tables=tables)
    first = [event(user * 100 + n, user, 100 + n, T0 + n * 2_000_000) for n in range(3)]
    history.apply(record(shop, *first))
    batch = record(shop, *(event(user * 100 + n, user, 100 + n, T0 + n * 2_000_000) for n in range(3, 6)))

    def killed(*_: Any) -> None:
        raise ConnectionError("the store is gone")

    with monkeypatch.context() as patch:
        if fails == "before":
            patch.setattr(OnlineSeen, "write", killed)
        elif fails == "between":
            patch.setattr(OnlineHistory, "_write", killed)
        else:
            patch.setattr(OnlineHistory, "_remember", killed)
        with pytest.raises(ConnectionError):
            history.apply(batch)
    for again in (True, True):
        shop.history(tables=tables).apply(batch, again=again)
        assert shop.online([user])[user]["item_ids"] == [100, 101, 102, 103, 104, 105]
        assert shop.seen([user])[user] == {(100 + n, "rating") for n in range(6)}


def test_what_crossed_a_materialisation_is_made_anew(
    shop: Any, event: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An applier has read a set, a new export is materialised, and the applier writes what it made of the old set.

    The event is too old for the history, so nothing but making the set anew from table and log puts it right.
    """
    from rf_platform.features.materialize import materialize
    from rf_serving.events.online_seen import OnlineSeen

    user, history = 12, shop.history()
    history.apply(record(shop, *(event(43_000 + n, user, 100 + n, T0 + n * 2_000_000) for n in range(LENGTH))))
    batch = record(shop, event(43_100, user, 128, T0 - 900 * DAY))
    table = pq.read_table(shop.interactions)
    (first,) = table.filter(pc.equal(table["user_id"], user)).slice(0, 1).to_pylist()
    exported = {**first, "item_id": 129, "event_timestamp": first["event_timestamp"] - timedelta(days=800)}
    pq.write_table(pa.concat_tables([table, pa.Table.from_pylist([exported], table.schema)]), shop.interactions)
    write = OnlineSeen.write

    def crossed(self: OnlineSeen, online: Any, rows: Any) -> None:
        materialize(shop.settings)
        write(self, online, rows)

    with monkeypatch.context() as patch:
        patch.setattr(OnlineSeen, "write", crossed)
        history.apply(batch)
    assert shop.seen([user]) != shop.expected_seen([user])  # the export is lost
    log = shop.log
    state = log.state()
    events = log.read(min(state.applied, batch[0].sequence - 1), 1000)
    assert events[0].sequence <= state.replay_until
    log.close()
    shop.history().apply(events, again=True)
    assert shop.seen([user]) == shop.expected_seen([user])
    assert (129, "rating") in shop.seen([user])[user]


@pytest.mark.parametrize("tables", [True, False])
def test_a_store_that_was_loaded_without_seen_sets_is_caught_up_with(
    shop: Any, event: Callable[..., Any], tables: bool
) -> None:
    """From table and log, or, where these are not at hand, from what the history still has."""
    user, history = 440 + tables, shop.history()
    history.apply(record(shop, *(event(user * 100 + n, user, 100 + n, T0 + n * 2_000_000) for n in range(12))))
    shop.forget_seen(user)
    assert shop.seen([user]) == {user: set()}
    shop.history(tables=tables).apply(record(shop, event(user * 100 + 50, user, 125, T0 + DAY)))
    items = {item for item, _ in shop.seen([user])[user]}
    assert items == {*range(100 if tables else 104, 112), 125}


def test_users_who_are_gone_leave_nothing(shop: Any) -> None:
    from rf_platform.features.materialize import materialize

    table = pq.read_table(shop.interactions)
    assert shop.seen([11])[11]
    pq.write_table(table.filter(pc.not_equal(table["user_id"], 11)), shop.interactions)
    materialize(shop.settings)
    assert shop.seen([11]) == {11: set()}
    pq.write_table(table, shop.interactions)
    # One of the history views is enough to load the sets, too.
    assert [m.view for m in materialize(shop.settings, ["interaction_context"])] == ["interaction_context", "rf_seen"]
    assert shop.seen([11]) == shop.expected_seen([11])
    assert [m.view for m in materialize(shop.settings, ["user_profile"])] == ["user_profile"]
