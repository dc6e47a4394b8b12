"""The seen set: what a row holds, and rows made from a log of interactions."""

from typing import Any

import duckdb
import numpy as np
import pytest

from rf_platform.features import seen_rows as made
from rf_platform.features.seen import COUNTS, ITEMS, TYPES, SeenSet, decode_ids
from rf_platform.features.spec import EntitySpec, FeatureSpec, IdType

NAMES: dict[str, list[Any]] = {"int64": [7, -3, 2**40, 0], "string": ["b", "a☂", "", "Z"]}


@pytest.mark.parametrize("id_type", ["int64", "string"])
def test_a_row_is_the_same_whatever_order_its_events_came_in(id_type: IdType) -> None:
    pairs = [(item, name) for item in NAMES[id_type] for name in ("view", "", "buy")][:-1]
    one, other = SeenSet(id_type), SeenSet(id_type)
    assert all(one.add(item, name) for item, name in pairs)
    assert not any(one.add(item, name) for item, name in pairs)
    for item, name in pairs[::-1]:
        other.add(item, name)
    row = one.row()
    assert row == other.row() == SeenSet.of_row(id_type, row).row()
    assert list(row[TYPES].string_list_val.val) == ["", "buy", "view"]
    assert list(row[COUNTS].int64_list_val.val) == [4, 3, 4]
    every, last = sorted(NAMES[id_type]), sorted(NAMES[id_type][:-1])
    assert list(decode_ids(row[ITEMS])) == [*every, *last, *every]


def test_ten_thousand_ids_take_twelve_bytes_each() -> None:
    row = SeenSet("int64", {"rating": range(10_000), "view": range(10_000)}).row()
    assert sum(value.ByteSize() for value in row.values()) < 240_100
    ids = decode_ids(row[ITEMS])
    assert isinstance(ids, np.ndarray)
    assert ids.tolist() == [*range(10_000), *range(10_000)]
    assert not SeenSet.of_row("int64", row).add(9_999, "rating")


def spec(user: IdType, item: IdType) -> FeatureSpec:
    return FeatureSpec(
        service="s",
        user=EntitySpec(name="user", join_key="user_id", id_type=user),
        item=EntitySpec(name="item", join_key="item_id", id_type=item),
        fields=(),
        domains=(),
        history_length=5,
    )


@pytest.mark.parametrize("triples", [1, 3, 1000])
@pytest.mark.parametrize(("user", "item"), [("int64", "int64"), ("string", "string")])
def test_rows_of_a_log_are_those_of_its_events(
    user: IdType, item: IdType, triples: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Users of any number of events, which the reader cuts anywhere; repetitions; events without a type."""
    monkeypatch.setattr(made, "_TRIPLES", triples)
    rng = np.random.default_rng(4)
    kinds: dict[str, Any] = {"int64": int, "string": lambda number: f"☂{number}"}
    events = [
        (
            kinds[user](u),
            kinds[item](int(i)),
            [None, "view", "buy"][int(rng.integers(3))],
            int(rng.integers(2**32 * 10**6)),
        )
        for u, count in enumerate([1, 2, 30, 1, 7])
        for i in rng.integers(0, 12, count)
    ]
    sets: dict[int | str, SeenSet] = {}
    for who, what, how, when in events:
        sets.setdefault(who, SeenSet(item)).add(what, how or "", when // 1_000_000)
    types = {"int64": "BIGINT", "string": "VARCHAR"}
    with duckdb.connect() as log:
        log.execute(f"CREATE TABLE log (user_id {types[user]}, item_id {types[item]}, event_type VARCHAR, us BIGINT)")
        log.execute("ALTER TABLE log RENAME TO raw")
        log.execute("CREATE VIEW log AS SELECT *, make_timestamptz(us) AS event_timestamp FROM raw")
        assert list(made.seen_rows(log, spec(user, item), "log")) == []
        log.executemany("INSERT INTO raw VALUES (?, ?, ?, ?)", events)
        found = list(made.seen_rows(log, spec(user, item), "log"))
    assert found == [(who, sets[who].row()) for who in sorted(sets)]
