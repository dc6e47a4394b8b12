"""What a dataset makes of events by their meaning: random logs against a plain reading of them."""

import random
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rf_platform.dataset import Dataset
from rf_platform.dataset.build import BuildOptions, build_dataset
from rf_platform.dataset.protocols import LeaveOneOut, SplitProtocol, Temporal
from rf_platform.errors import ConfigError, DataError
from rf_platform.features.meaning_rules import parse_meanings
from rf_platform.features.read import FeatureDefinitions
from rf_platform.features.spec import DomainSpec, EntitySpec, FeatureSpec, FieldSpec

START = datetime(2024, 1, 1, tzinfo=UTC)
MEANINGS = """
- {type: dislike, is: unwanted}
- {type: rating, field: rating, below: 3, is: unwanted}
- {type: impression, is: seen}
- {type: ping, is: ignored}
"""
Row = tuple[int, int, datetime, str, float | None]
Write = Callable[..., Path]


def meaning(kind: str, rating: float | None) -> str:
    if kind == "rating":
        return "unwanted" if rating is not None and rating < 3 else "wanted"
    return {"dislike": "unwanted", "impression": "seen", "ping": "ignored"}.get(kind, "wanted")


def random_log(seed: int) -> list[Row]:
    """Few users, items and moments, so that everything happens to everybody, at one time and more than once."""
    rng = random.Random(seed)
    rows: dict[Any, Row] = {}
    for _ in range(140):
        user, item = rng.choice([1, 2, 3, 4]), rng.choice(range(10, 22))
        kind = rng.choice(["rating", "rating", "rating", "dislike", "impression", "ping", "like"])
        if item == 21:
            kind = "ping"  # an item of nothing but ignored events
        if item == 20:
            kind = "impression"
        if user == 4:
            kind = "dislike"  # a user who never wanted anything
        rating = rng.choice([None, 1.0, 2.5, 3.0, 5.0]) if kind == "rating" else None
        when = START + timedelta(hours=rng.randrange(40))
        rows.setdefault((user, item, when, kind), (user, item, when, kind, rating))
    return list(rows.values())


def kept(name: str, dtype: str, domain: str, of: str) -> FieldSpec:
    return FieldSpec(
        view="h", field=name, side="context", kind="categorical", role="history", dtype=dtype, domain=domain, of=of
    )


def spec(meanings: str | None) -> FeatureSpec:
    return FeatureSpec(
        service="test",
        user=EntitySpec(name="user", join_key="user_id", id_type="int64"),
        item=EntitySpec(name="item", join_key="item_id", id_type="int64"),
        fields=(
            kept("items", "Array(Int64)", "item_id", "item_id"),
            kept("types", "Array(String)", "type", "event_type"),
        ),
        domains=(DomainSpec(name="type", value_type="string"),),
        history_length=5,
        meanings=() if meanings is None else parse_meanings(meanings, "view 'h'"),
    )


def make(
    write: Write, tmp_path: Path, rows: list[Row], meanings: str | None, protocol: SplitProtocol | None = None
) -> Dataset:
    log = write(
        "interactions",
        user_id=[r[0] for r in rows],
        item_id=[r[1] for r in rows],
        event_timestamp=[r[2] for r in rows],
        event_type=[r[3] for r in rows],
        rating=[r[4] for r in rows],
        input_order=list(range(len(rows))),
    )
    definitions = FeatureDefinitions(spec=spec(meanings), sources=())
    options = BuildOptions(protocol=protocol or LeaveOneOut())
    return build_dataset(definitions, log, tmp_path / "datasets", "tiny", options)[0]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(
    "protocol", [LeaveOneOut(), Temporal(validation_cut=0.6, test_cut=0.8)], ids=["last", "temporal"]
)
def test_against_a_plain_reading(write: Write, tmp_path: Path, seed: int, protocol: SplitProtocol) -> None:
    rows = random_log(seed)
    dataset = make(write, tmp_path, rows, MEANINGS, protocol)
    log, users, items = dataset.sequences, dataset.user_ids.tolist(), dataset.item_ids.tolist()
    ordered = [row for _, row in sorted(enumerate(rows), key=lambda pair: (pair[1][0], pair[1][2], pair[0]))]
    wanted = [row for row in ordered if meaning(*row[3:]) == "wanted"]
    assert items == sorted({row[1] for row in rows if meaning(*row[3:]) != "ignored"})
    assert users == sorted({row[0] for row in wanted}) == [1, 2, 3]
    events: list[Row] = []
    for n, user in enumerate(users):
        own = [row for row in wanted if row[0] == user]
        begin, end = log.offsets[n], log.offsets[n + 1]
        found = [items[i] for i in log.item[begin:end]]
        # A protocol may remove events behind the last target; what is left are the first of the wanted ones.
        assert found == [row[1] for row in own][: len(found)]
        if isinstance(protocol, LeaveOneOut):
            assert len(found) == len(own)
            assert [log.split[end - 1], log.split[end - 2]] == [2, 1]  # the last two wishes, whatever came behind them
        events += own[: len(found)]
    trained = Counter(row[1] for row, split in zip(events, log.split, strict=True) if split == 0)
    assert {items[i]: n for i, n in enumerate(dataset.training_counts.of_item.tolist()) if n} == trained
    assert set(dataset.contexts["h__types"].to_pylist()) <= {"rating", "like"}
    assert log.aside is not None
    for n, user in enumerate(users):
        begin, end = int(log.offsets[n]), int(log.offsets[n + 1])
        for event in range(begin, end):
            before = [row for row in ordered if row[0] == user and row[2] < events[event][2]]
            aside = [row for row in before if meaning(*row[3:]) in ("unwanted", "seen")]
            row, item = log.aside.seen(np.array([begin]), np.array([event]))
            assert not row.any()
            assert {items[i] for i in item} == {r[1] for r in aside}
            # Unwanted, and not wanted since: wishes from the first one after the refusal on, up to the one before this event.
            refused = set()
            for r in (r for r in before if meaning(*r[3:]) == "unwanted"):
                later = [e for e in range(begin, event + 1) if events[e][2] > r[2] and events[e][1] == r[1]]
                if not later:
                    refused.add(r[1])
            rng = np.random.default_rng(0)
            many = np.full(400, event)
            drawn = log.aside.draw(np.full(400, begin), many, rng)
            assert {items[i] for i in drawn if i >= 0} == refused
            assert (drawn < 0).all() == (not refused)


def test_of_those_refused_each_is_drawn_alike(write: Write, tmp_path: Path) -> None:
    moments = iter(range(100))
    rows: list[Row] = [(1, item, START + timedelta(hours=next(moments)), "dislike", None) for item in (10, 11, 12, 13)]
    rows += [(1, item, START + timedelta(hours=next(moments)), "like", None) for item in (20, 21, 12, 22, 23)]
    dataset = make(write, tmp_path, rows, MEANINGS)
    aside, items = dataset.sequences.aside, dataset.item_ids
    assert aside is not None
    drawn = aside.draw(np.zeros(4000, np.int64), np.full(4000, 4), np.random.default_rng(1))
    counts = Counter(items[drawn[drawn >= 0]].tolist())
    assert set(counts) == {10, 11, 13}  # 12 was wanted in the end
    assert all(900 < n < 1100 for n in counts.values())


def test_the_same_events_without_those_put_aside_give_the_same_wishes(write: Write, tmp_path: Path) -> None:
    rows = random_log(9)
    some = make(write, tmp_path / "a", rows, MEANINGS)
    only = make(write, tmp_path / "b", [row for row in rows if meaning(*row[3:]) == "wanted"], None)
    assert only.sequences.aside is None
    assert "meanings" not in only.spec.to_dict()
    for name in ("offsets", "split", "timestamp"):
        assert np.array_equal(getattr(some.sequences, name), getattr(only.sequences, name))
    assert some.item_ids[some.sequences.item].tolist() == only.item_ids[only.sequences.item].tolist()
    assert some.encoder.vocabularies["item_id"].values.equals(only.encoder.vocabularies["item_id"].values)


def test_other_meanings_are_another_dataset_and_equal_ones_the_same(write: Write, tmp_path: Path) -> None:
    rows = random_log(3)
    first = make(write, tmp_path, rows, MEANINGS)
    assert make(write, tmp_path, rows, MEANINGS).name == first.name
    other = make(write, tmp_path, rows, MEANINGS.replace("unwanted", "seen"))
    assert other.fingerprint != first.fingerprint
    assert other.sequences.aside is not None
    assert not other.sequences.aside.unwanted.any()
    assert make(write, tmp_path, rows, None).sequences.aside is None


def test_what_does_not_fit_the_log_is_refused(write: Write, tmp_path: Path) -> None:
    rows = random_log(1)
    with pytest.raises(ConfigError, match="names the field 'stars'"):
        make(write, tmp_path, rows, "[{field: stars, below: 2, is: unwanted}]")
    with pytest.raises(DataError, match=r"by the meanings \[\{type: like, is: seen\}\] no event of .* is wanted"):
        make(write, tmp_path, [row for row in rows if row[3] == "like"], "[{type: like, is: seen}]")
