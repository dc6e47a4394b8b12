"""Building dataset versions: what is learned from which events, how they are split, and what makes a version a new one."""

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rf_platform.dataset import Dataset
from rf_platform.dataset.build import BuildOptions, build_dataset
from rf_platform.errors import ConfigError, DataError, NotFoundError, RfError
from rf_platform.features.dtype import Kind
from rf_platform.features.meanings import MeaningRule
from rf_platform.features.read import FeatureDefinitions, ViewSource
from rf_platform.features.spec import DomainSpec, EntitySpec, FeatureSpec, FieldSpec, Side

MICROSECONDS = pa.timestamp("us", tz="UTC")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
START = datetime(2024, 1, 1, tzinfo=UTC)
HELD_OUT_ITEMS = (900, 901)
Tables = dict[str, dict[str, list[Any]]]


def field(
    view: str, name: str, side: Side, kind: Kind, dtype: str, domain: str | None = None, of: str | None = None
) -> FieldSpec:
    role = "history" if of else "feature"
    return FieldSpec(view=view, field=name, side=side, kind=kind, role=role, dtype=dtype, domain=domain, of=of)  # type: ignore[arg-type]


FIELDS = (
    field("items", "genres", "item", "multi", "Array(String)", "genre"),
    field("items", "poster", "item", "vector", "Array(Float32)"),
    field("items", "price", "item", "numeric", "Float32"),
    field("items", "released", "item", "timestamp", "UnixTimestamp"),
    field("items", "year", "item", "categorical", "Int64", "year"),
    field("past", "event_types", "context", "categorical", "Array(String)", "event", of="event_type"),
    field("past", "hours", "context", "categorical", "Array(Int64)", "hour", of="hour"),
    field("past", "item_ids", "context", "categorical", "Array(Int64)", "item_id", of="item_id"),
    field("past", "ratings", "context", "numeric", "Array(Float32)", of="rating"),
    field("past", "times", "context", "timestamp", "Array(UnixTimestamp)", of="event_timestamp"),
    field("users", "age_group", "user", "categorical", "Int64", "age"),
    field("users", "income", "user", "numeric", "Float64"),
)
TYPES = {"age": "int64", "event": "string", "genre": "string", "hour": "int64", "item_id": "int64", "year": "int64"}
SPEC = FeatureSpec(
    service="test",
    user=EntitySpec(name="user", join_key="user_id", id_type="int64"),
    item=EntitySpec(name="item", join_key="item_id", id_type="int64"),
    fields=FIELDS,
    domains=tuple(DomainSpec(name=k, value_type=v) for k, v in sorted(TYPES.items())),  # type: ignore[arg-type]
    history_length=10,
)


def tables() -> Tables:
    """Four users with five events each; the last two of each carry values that occur nowhere else.

    User u (1..4) first interacts with the items 10, 11 and 10 + u, then with 900 (validation) and 901 (test).
    """
    items: dict[str, list[Any]] = {
        "item_id": [10, 11, 12, 13, 14, *HELD_OUT_ITEMS],
        "event_timestamp": [EPOCH] * 7,
        "genres": [["Drama"], ["Drama", "Comedy"], ["Comedy"], None, ["War"], ["poison"], ["poison", "Drama"]],
        "poster": [[1.0, 2.0], [3.0, 4.0], None, [5.0, 6.0], [7.0, 8.0], [1e6, 1e6], [2e6, 2e6]],
        "price": [1.0, 2.0, 4.0, None, 8.0, 1e6, 2e6],
        "released": [EPOCH + timedelta(days=n) for n in (1, 2, 3, 4, 5, 90_000, 90_001)],
        "year": [1990, 1991, 1992, 1993, 1994, 2998, 2999],
    }
    users: dict[str, list[Any]] = {"user_id": [], "event_timestamp": [], "age_group": [], "income": []}
    log: dict[str, list[Any]] = {
        name: [] for name in ("user_id", "item_id", "event_timestamp", "event_type", "rating", "hour", "input_order")
    }
    for u in range(1, 5):
        begin = START + timedelta(days=u)
        # The profile the training events saw, and a later one only the held-out events saw.
        for known, age, income in ((EPOCH, 18 + u % 2, 100.0 * u), (begin + timedelta(hours=2.5), 990 + u, 1e9)):
            for name, value in zip(users, (u, known, age, income), strict=True):
                users[name].append(value)
        for position, item in enumerate((10, 11, 10 + u, *HELD_OUT_ITEMS)):
            held_out = position > 2
            row = (
                u,
                item,
                begin + timedelta(hours=position),
                "poison" if held_out else ("view", "buy")[u % 2],
                1e6 + u if held_out else float(u + position),
                70 + position if held_out else position,
                len(log["user_id"]),
            )
            for name, value in zip(log, row, strict=True):
                log[name].append(value)
    return {"items": items, "users": users, "interactions": log}


TYPE_OF = {
    "event_timestamp": MICROSECONDS,
    "released": MICROSECONDS,
    "price": pa.float32(),
    "rating": pa.float32(),
    "poster": pa.list_(pa.float32()),
    "genres": pa.list_(pa.string()),
}


def write(directory: Path, content: Tables) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for table, columns in content.items():
        arrays = {name: pa.array(values, TYPE_OF.get(name)) for name, values in columns.items()}
        pq.write_table(pa.table(arrays), directory / f"{table}.parquet")


def definitions(directory: Path, spec: FeatureSpec = SPEC) -> FeatureDefinitions:
    sides: tuple[tuple[str, Side], ...] = (("items", "item"), ("users", "user"))
    return FeatureDefinitions(
        spec=spec,
        sources=tuple(
            ViewSource(
                view=view,
                side=side,
                path=str(directory / f"{view}.parquet"),
                join_key=f"{side}_id",
                timestamp="event_timestamp",
                created=None,
                ttl=None,
                columns={f.field: f.field for f in spec.fields if f.view == view},
            )
            for view, side in sides
            if any(f.view == view for f in spec.fields)
        ),
    )


def build(home: Path, content: Tables | None = None, spec: FeatureSpec = SPEC, **options: Any) -> tuple[Dataset, bool]:
    """Write the tables, if given, and build a version of the catalog ``tiny`` in ``home``."""
    if content is not None:
        write(home / "tables", content)
    return build_dataset(
        definitions(home / "tables", spec),
        home / "tables" / "interactions.parquet",
        home / "datasets",
        "tiny",
        BuildOptions(threads=1, **options),
    )


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """The dataset of :func:`tables`."""
    return build(tmp_path_factory.mktemp("built"), tables())[0]


def test_equal_inputs_are_one_version(built: Dataset, tmp_path: Path) -> None:
    first, new = build(tmp_path, tables())
    again, again_new = build(tmp_path)
    assert (new, again_new) == (True, False)
    assert again.path == first.path
    assert again.fingerprint == first.fingerprint == built.fingerprint
    assert [p.name for p in (tmp_path / "datasets").iterdir()] == ["tiny-v1"]


def test_the_order_of_rows_in_the_log_file_does_not_matter(built: Dataset, tmp_path: Path) -> None:
    content = tables()
    order = np.random.default_rng(0).permutation(len(content["interactions"]["user_id"]))
    content["interactions"] = {k: [v[i] for i in order] for k, v in content["interactions"].items()}
    assert build(tmp_path, content)[0].fingerprint == built.fingerprint


def swap_last_two(log: list[Any]) -> None:
    log[-1], log[-2] = log[-2], log[-1]


def last(value: Any) -> Callable[[list[Any]], None]:
    def change(column: list[Any]) -> None:
        column[-1] = value

    return change


def every(old: Any, new: Any) -> Callable[[list[Any]], None]:
    def change(column: list[Any]) -> None:
        column[:] = [new if value == old else value for value in column]

    return change


@pytest.mark.parametrize(
    ("table", "column", "change"),
    [
        # All of these touch held-out rows only, so what is learned from training cannot give the change away.
        ("interactions", "rating", last(3.0)),
        ("interactions", "event_type", last("view")),
        ("interactions", "hour", last(None)),
        ("interactions", "hour", every(74, 75)),  # all test events: the numbers of the contexts stay
        ("interactions", "event_timestamp", last(START + timedelta(days=400))),
        ("interactions", "item_id", swap_last_two),
        ("items", "year", last(3000)),
        ("items", "genres", last(["poison"])),
        ("items", "price", last(2e6 + 1)),
        ("items", "released", last(EPOCH)),
        ("items", "poster", last([2e6, 2e6 + 1])),
        ("items", "event_timestamp", last(START + timedelta(days=3.1))),  # user 2's test event no longer knows the item
        ("users", "age_group", last(996)),
        ("users", "income", last(2e9)),
    ],
)
def test_another_value_is_another_version(
    built: Dataset, tmp_path: Path, table: str, column: str, change: Callable[[list[Any]], None]
) -> None:
    content = tables()
    change(content[table][column])
    shutil.copytree(built.path, tmp_path / "datasets" / built.name)
    other, new = build(tmp_path, content)
    assert new
    assert other.name == "tiny-v2"
    assert other.fingerprint != built.fingerprint


def test_another_meaning_of_a_feature_is_another_version(built: Dataset, tmp_path: Path) -> None:
    other = build(tmp_path, tables(), replace(SPEC, history_length=11))[0]
    assert other.fingerprint != built.fingerprint


def test_versions_count_on(tmp_path: Path) -> None:
    def priced(price: float, **options: Any) -> tuple[str, int, bool]:
        content = tables()
        content["items"]["price"][0] = price
        dataset, new = build(tmp_path, content, **options)
        return dataset.name, dataset.manifest["version"], new

    assert priced(1.0) == ("tiny-v1", 1, True)
    assert priced(1.5) == ("tiny-v2", 2, True)
    assert priced(1.0) == ("tiny-v1", 1, False)
    assert priced(1.6, after_version=8) == (
        "tiny-v9",
        9,
        True,
    )  # the registry knows of versions that are gone from disk
    assert priced(1.7, after_version=3) == ("tiny-v10", 10, True)
    assert priced(1.8) == ("tiny-v11", 11, True)  # as numbers 10 is more than 9


def test_a_copy_kept_beside_the_versions_does_not_stop_a_build(tmp_path: Path) -> None:
    first, _ = build(tmp_path, tables())
    shutil.move(first.path, tmp_path / "datasets" / "tiny-v1.bak")
    content = tables()
    content["items"]["price"][0] = 1.5
    assert build(tmp_path, content)[1]


def vocabulary(dataset: Dataset, domain: str) -> dict[Any, int]:
    learned = dataset.encoder.vocabularies[domain]
    return dict(zip(learned.values.to_pylist(), learned.counts.tolist(), strict=True))


def test_vocabularies_know_the_training_split_only(built: Dataset) -> None:
    """Counted by hand: four users saw 10 and 11, and each of them one of 11..14."""
    assert vocabulary(built, "item_id") == {11: 5, 10: 4, 12: 1, 13: 1, 14: 1}
    assert vocabulary(built, "genre") == {"Drama": 9, "Comedy": 6, "War": 1}
    assert vocabulary(built, "year") == {1991: 5, 1990: 4, 1992: 1, 1993: 1, 1994: 1}
    assert vocabulary(built, "event") == {"view": 6, "buy": 6}
    assert vocabulary(built, "hour") == {0: 4, 1: 4, 2: 4}
    assert vocabulary(built, "age") == {18: 6, 19: 6}


def test_ids_fall_with_frequency_and_equal_ones_with_the_value(built: Dataset) -> None:
    assert built.encoder.vocabularies["item_id"].values.to_pylist() == [11, 10, 12, 13, 14]
    ids = built.encoder.vocabularies["item_id"].encode(pa.array([11, 10, 12, 900, None]))
    assert ids.tolist() == [2, 3, 4, 1, 0]


def test_means_and_deviations_know_the_training_split_only(built: Dataset) -> None:
    seen = [item for u in range(1, 5) for item in (10, 11, 10 + u)]
    price = {10: 1.0, 11: 2.0, 12: 4.0, 14: 8.0}
    expected = {
        "items__price": [price[i] for i in seen if i in price],
        "items__released": [86_400.0 * (i - 9) for i in seen],
        "users__income": [100.0 * u for u in range(1, 5) for _ in range(3)],
        "past__ratings": [float(u + position) for u in range(1, 5) for position in range(3)],
    }
    assert set(built.encoder.numeric) == set(expected)
    for name, values in expected.items():
        assert built.encoder.numeric[name].mean == pytest.approx(np.mean(values), rel=1e-6), name
        assert built.encoder.numeric[name].std == pytest.approx(np.std(values), rel=1e-6), name


def test_the_encoder_does_not_notice_what_was_held_out(built: Dataset, tmp_path: Path) -> None:
    """Other held-out values, the same encoder files."""
    content = tables()
    held_out = [i for i, item in enumerate(content["interactions"]["item_id"]) if item in HELD_OUT_ITEMS]
    for i in held_out:
        content["interactions"]["rating"][i] = -7.0
        content["interactions"]["event_type"][i] = "other"
    for column, value in (("genres", ["other"]), ("price", -7.0), ("year", 1), ("poster", [0.0, 0.0])):
        content["items"][column][-2:] = [value, value]
    other = build(tmp_path, content)[0]
    files = sorted(p.name for p in (built.path / "encoder").iterdir())
    assert files == sorted(p.name for p in (other.path / "encoder").iterdir())
    for name in files:
        mine, theirs = built.path / "encoder" / name, other.path / "encoder" / name
        if name.endswith(".json"):
            assert json.loads(mine.read_text()) == json.loads(theirs.read_text())
        else:
            assert pq.read_table(mine).equals(pq.read_table(theirs)), name
    assert other.fingerprint != built.fingerprint


def test_the_width_of_a_vector(built: Dataset, tmp_path: Path) -> None:
    assert built.encoder.widths == {"items__poster": 2}
    content = tables()
    content["items"]["poster"][-1] = [1.0, 2.0, 3.0]
    with pytest.raises(DataError, match=r"items\.poster.* 2 .* 3 "):
        build(tmp_path, content)


def test_every_event_has_the_values_known_before_it(built: Dataset) -> None:
    rows = built.enriched().to_pylist()
    log = tables()["interactions"]
    assert [(r["user_id"], r["item_id"]) for r in rows] == list(zip(log["user_id"], log["item_id"], strict=True))
    assert [r["users__income"] for r in rows[:5]] == [100.0, 100.0, 100.0, 1e9, 1e9]
    assert [r["items__year"] for r in rows[5:10]] == [1990, 1991, 1992, 2998, 2999]
    assert built.sequences.context_numbers[:5, 0].tolist() == [1.0, 2.0, 3.0, 1e6 + 1, 1e6 + 1]
    hours = built.contexts["past__hours"].to_pylist()
    assert [hours[c] for c in built.sequences.context[:5]] == [0, 1, 2, 73, 74]


def log_of(events: list[tuple[int, int, float, int]]) -> dict[str, list[Any]]:
    """A log of (user, item, hour, input order)."""
    return {
        "user_id": [e[0] for e in events],
        "item_id": [e[1] for e in events],
        "event_timestamp": [START + timedelta(hours=e[2]) for e in events],
        "event_type": ["view"] * len(events),
        "rating": [None for _ in events],
        "hour": [0] * len(events),
        "input_order": [e[3] for e in events],
    }


def test_who_has_few_events_holds_none_out(tmp_path: Path) -> None:
    log = log_of([(user, 10 + n, n, 10 * user + n) for user in (1, 2, 3, 4) for n in range(user)])
    dataset = build(tmp_path, {**tables(), "interactions": log})[0]
    offsets, split = dataset.sequences.offsets.tolist(), dataset.sequences.split.tolist()
    assert [split[a:b] for a, b in pairwise(offsets)] == [[0], [0, 0], [0, 1, 2], [0, 0, 1, 2]]
    counts = dataset.manifest["counts"]
    assert (counts["users"], counts["events"], counts["items"]) == (4, 10, 7)
    assert (counts["train"], counts["validation"], counts["test"]) == (6, 2, 2)
    assert dataset.user_ids.tolist() == [1, 2, 3, 4]
    assert dataset.item_ids.tolist() == [10, 11, 12, 13, 14, *HELD_OUT_ITEMS]  # the whole catalog


def test_equal_timestamps_keep_the_input_order(tmp_path: Path) -> None:
    """Neither the order in the file nor that of the items; the split follows it too."""
    log = log_of([(1, 12, 5, 7), (1, 10, 5, 9), (1, 14, 5, 3), (1, 13, 5, 8), (1, 11, 4, 99)])
    dataset = build(tmp_path, {**tables(), "interactions": log})[0]
    assert dataset.item_ids[dataset.sequences.item].tolist() == [11, 14, 12, 13, 10]
    assert dataset.sequences.split.tolist() == [0, 0, 0, 1, 2]


def test_without_a_users_table(tmp_path: Path) -> None:
    content = tables()
    del content["users"]
    spec = replace(
        SPEC,
        fields=tuple(f for f in FIELDS if f.side != "user"),
        domains=tuple(d for d in SPEC.domains if d.name != "age"),
    )
    dataset, new = build(tmp_path, content, spec)
    assert new
    assert dataset.user_ids.tolist() == [1, 2, 3, 4]
    assert dataset.users.num_rows == 4
    assert dataset.sequences.user_version.tolist() == [u for u in range(4) for _ in range(5)]
    assert not build(tmp_path, None, spec)[1]


def drop(table: str, column: str | None = None) -> Callable[[Path], None]:
    def change(directory: Path) -> None:
        path = directory / f"{table}.parquet"
        if column is None:
            path.unlink()
        else:
            pq.write_table(pq.read_table(path).drop_columns([column]), path)

    return change


def empty(directory: Path) -> None:
    path = directory / "interactions.parquet"
    pq.write_table(pq.read_table(path).slice(0, 0), path)


@pytest.fixture
def tidy(tmp_path: Path) -> Iterator[None]:
    """A build that fails leaves nothing behind."""
    yield
    assert list((tmp_path / "datasets").glob("*")) + list((tmp_path / "datasets").glob(".*")) == []


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        (empty, DataError, r"interactions\.parquet is empty"),
        (drop("interactions"), NotFoundError, r"no interaction log at .*interactions\.parquet.*rf data import"),
        (drop("interactions", "rating"), ConfigError, r"'rating'.*interactions\.parquet"),
        (drop("items"), NotFoundError, r"view 'items' reads .*items\.parquet"),
        (drop("users", "income"), ConfigError, r"view 'users'.*'income'.*users\.parquet"),
        (drop("items", "item_id"), ConfigError, r"view 'items'.*'item_id'"),
        (drop("items", "event_timestamp"), ConfigError, r"view 'items'.*'event_timestamp'"),
    ],
)
@pytest.mark.usefixtures("tidy")
def test_what_is_missing_is_named(
    tmp_path: Path, change: Callable[[Path], None], kind: type[RfError], message: str
) -> None:
    write(tmp_path / "tables", tables())
    change(tmp_path / "tables")
    with pytest.raises(kind, match=message):
        build(tmp_path)


def test_shares_by_hand(tmp_path: Path) -> None:
    coverage = build(tmp_path, tables())[0].manifest["coverage"]
    # Items 10 and 11 have four events each, 12, 13, 14 one, 15 has no event; user 4's third event is of item 14, user 3's of 13.
    assert coverage["items__price"] == {"events": pytest.approx(19 / 20), "items": pytest.approx(6 / 7)}
    assert coverage["items__year"] == {"events": 1.0, "items": 1.0}
    assert coverage["users__age_group"] == {"events": 1.0, "users": 1.0}
    assert coverage["past__ratings"] == {"events": 1.0}


def test_a_view_that_is_newer_than_all_events_is_named(tmp_path: Path) -> None:
    content = tables()
    content["items"]["event_timestamp"] = [START + timedelta(days=300)] * 7
    dataset = build(tmp_path, content)[0]
    assert dataset.manifest["coverage"]["items__price"] == {"events": 0.0, "items": pytest.approx(6 / 7)}
    [said] = dataset.manifest["warnings"]
    assert said.startswith(
        "view 'items': all 7 rows are newer than the events (the first of 2024-10-27 00:00, the last event"
    )


def test_a_feature_without_any_value_is_named(tmp_path: Path) -> None:
    content = tables()
    content["items"]["price"] = [None] * 7
    assert any(
        w.startswith("items__price: no event has a value") for w in build(tmp_path, content)[0].manifest["warnings"]
    )


def test_a_meaning_of_a_type_that_no_event_has_is_named(tmp_path: Path) -> None:
    spec = replace(SPEC, meanings=(MeaningRule(meaning="unwanted", types=("veiw",)),))
    warnings = build(tmp_path, tables(), spec)[0].manifest["warnings"]
    assert "a meaning names the event type 'veiw', which no event has; did you mean 'view'?" in warnings
