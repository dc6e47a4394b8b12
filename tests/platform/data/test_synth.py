"""The synthetic catalog: as skewed as a real one, and the same for the same seed."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from rf_platform.cli.app import app
from rf_platform.data.report import load_report
from rf_platform.data.synth import SynthOptions, synthesise
from rf_platform.data.synth import catalog as catalog_module
from rf_platform.data.synth.catalog import SynthCatalog, make_catalog
from rf_platform.data.synth.choices import SynthEvents, make_events
from rf_platform.data.synth.users import activity, make_users, tastes
from rf_platform.errors import UsageError
from rf_platform.features.apply import apply_definitions
from rf_platform.features.read import read_definitions
from rf_platform.features.store import open_store
from rf_platform.settings import Settings
from rf_platform.workspace import Workspace

LARGE = SynthOptions(users=10_000, items=3_000, events=200_000)
TABLES = ("interactions.parquet", "items.parquet", "users.parquet")


def make(home: Path, **sizes: Any) -> Path:
    synthesise(SynthOptions(**sizes), workspace=Workspace(home))
    return home / "tables"


def columns(path: Path) -> dict[str, Any]:
    table = pq.read_table(path)
    return {name: table[name].to_numpy() for name in table.column_names if name != "event_timestamp"} | {
        "time": table["event_timestamp"].cast("int64").to_numpy()
    }


@pytest.fixture(scope="module")
def catalog() -> SynthCatalog:
    return make_catalog(LARGE)


@pytest.fixture(scope="module")
def blocks(catalog: SynthCatalog) -> list[SynthEvents]:
    """All events, with the blocks of users made last to first, as a file never makes them."""
    likes, events = tastes(LARGE, catalog), activity(LARGE)
    made = {b: make_events(LARGE, catalog, make_users(LARGE, catalog, likes, events, b), b) for b in (2, 1, 0)}
    assert LARGE.blocks == 3
    return [made[b] for b in range(3)]


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    home = tmp_path_factory.mktemp("large")
    return columns(make(home, users=LARGE.users, items=LARGE.items, events=LARGE.events) / "interactions.parquet")


def test_the_same_seed_gives_the_same_bytes_and_another_one_others(tmp_path: Path) -> None:
    first, second, other = (make(tmp_path / str(n), seed=seed) for n, seed in enumerate((3, 3, 4)))
    for name in TABLES:
        assert (first / name).read_bytes() == (second / name).read_bytes()
        assert (first / name).read_bytes() != (other / name).read_bytes()


def test_a_block_of_users_does_not_depend_on_those_before_it(log: dict[str, Any], blocks: list[SynthEvents]) -> None:
    assert np.array_equal(np.concatenate([b.user for b in blocks]) + 1, log["user_id"])
    assert np.array_equal(np.concatenate([b.item for b in blocks]) + 1, log["item_id"])
    assert np.array_equal(np.concatenate([b.timestamp for b in blocks]), log["time"])


def test_sizes_are_what_was_asked_for(log: dict[str, Any]) -> None:
    assert len(log["user_id"]) == LARGE.events
    counts = np.bincount(log["user_id"], minlength=LARGE.users + 1)[1:]
    assert len(counts) == LARGE.users
    assert counts.min() >= 5
    assert np.median(counts) < counts.mean() < counts.max() / 10
    assert log["item_id"].min() >= 1
    assert log["item_id"].max() <= LARGE.items
    assert np.array_equal(log["input_order"], np.arange(LARGE.events))


def test_popularity_follows_zipfs_law(log: dict[str, Any]) -> None:
    """The slope of log frequency over log rank, where neither the flattened head nor single events blur it."""
    counts = np.sort(np.bincount(log["item_id"], minlength=LARGE.items + 1)[1:])[::-1]
    rank = np.arange(30, 1000)
    slope, _ = np.polyfit(np.log(rank + catalog_module.ZIPF_SHIFT), np.log(counts[rank - 1]), 1)
    assert -1.25 < slope < -0.8
    assert counts[: LARGE.items // 10].sum() > 0.4 * LARGE.events
    assert counts[0] < 0.05 * LARGE.events


def test_events_come_in_sessions(log: dict[str, Any], blocks: list[SynthEvents]) -> None:
    same_user = log["user_id"][1:] == log["user_id"][:-1]
    gaps = np.diff(log["time"])[same_user] / 1e6
    assert gaps.min() > 0
    within = np.concatenate([np.diff(b.session) == 0 for b in blocks])
    users = np.concatenate([np.diff(b.user) == 0 for b in blocks])
    inside, between = (
        np.concatenate([np.diff(b.timestamp) for b in blocks])[m] / 1e6 for m in (within, users & ~within)
    )
    assert 30 < np.median(inside) < 120
    assert between.min() >= 1800
    assert np.median(between) > 86_400
    assert 3 < (len(inside) + len(between)) / len(between) < 5
    assert ((gaps > 600) & (gaps < 1800)).mean() < 0.02  # nothing in between


def test_a_session_keeps_to_a_topic(catalog: SynthCatalog, blocks: list[SynthEvents]) -> None:
    """Neighbours in a session share their cell far more often than events of the same user from different sessions."""
    block = blocks[0]
    cell = catalog.cell[block.item]
    same_user, same_session = np.diff(block.user) == 0, np.diff(block.session) == 0
    alike = cell[1:] == cell[:-1]
    assert alike[same_session].mean() > 1.5 * alike[same_user & ~same_session].mean() > 0.2
    assert (cell[1:] == cell[:-1])[~same_user].mean() < 0.1


def test_nobody_chooses_what_is_not_there_yet(tmp_path: Path, log: dict[str, Any]) -> None:
    tables = make(tmp_path, users=LARGE.users, items=LARGE.items, events=1 * LARGE.users)
    items, users = columns(tables / "items.parquet"), columns(tables / "users.parquet")
    assert (log["time"] > items["time"][log["item_id"] - 1]).all()
    assert (log["time"] > users["time"][log["user_id"] - 1]).all()
    late = items["time"] > catalog_module.START
    assert 0.2 < late.mean() < 0.35
    seen = np.isin(items["item_id"], log["item_id"])
    assert seen[late].mean() > 0.5


def test_repeats_are_rare(log: dict[str, Any]) -> None:
    pairs = log["user_id"] * (LARGE.items + 1) + log["item_id"]
    assert len(np.unique(pairs)) > 0.9 * len(pairs)


def test_attributes_tell_cells_apart(catalog: SynthCatalog) -> None:
    """Items of a cell share brand and tags far more often than items of different cells; prices lie close together."""
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, LARGE.items, (2, 200_000))
    cell = catalog.cell[a] == catalog.cell[b]
    category = (catalog.cell[a] // catalog.styles == catalog.cell[b] // catalog.styles) & ~cell
    brand = catalog.brand[a] == catalog.brand[b]
    tags = (catalog.tags[a][:, :, None] == catalog.tags[b][:, None]).any((1, 2))
    assert brand[cell].mean() > 2 * brand[category].mean()
    assert tags[cell].mean() > 3 * tags[category].mean()
    price = np.log(catalog.price)
    assert np.abs(price[a] - price[b])[cell].mean() < 0.6 * np.abs(price[a] - price[b])[category].mean()


def test_what_is_known_of_users_tells_of_their_tastes(
    tmp_path: Path, log: dict[str, Any], catalog: SynthCatalog
) -> None:
    tables = make(tmp_path, users=LARGE.users, items=LARGE.items, events=LARGE.events)
    users = columns(tables / "users.parquet")
    segment = np.unique(users["segment"], return_inverse=True)[1][log["user_id"] - 1]
    category = catalog.cell[log["item_id"] - 1] // catalog.styles
    share = np.bincount(category, minlength=catalog.categories) / len(category)
    table = np.zeros((segment.max() + 1, catalog.categories))
    np.add.at(table, (segment, category), 1)
    table /= table.sum(1, keepdims=True)
    assert 0.5 * np.abs(table - share).sum(1).mean() > 0.15  # total variation
    price = catalog.price[log["item_id"] - 1]
    old, young = (np.median(price[users["age_group"][log["user_id"] - 1] == age]) for age in ("65+", "18-24"))
    assert old > 1.3 * young


def test_the_tables_are_those_of_an_import(tmp_path: Path) -> None:
    tables = make(tmp_path, users=50, items=30, events=400)
    report = load_report(tables)
    assert report.name == report.feature_repo == "synthetic"
    assert report.counts == {"interactions": 400, "items": 30, "users": 50, "active_users": 50, "quarantined": 0}
    assert report.columns["interactions"] == {
        "user_id": "int64",
        "item_id": "int64",
        "event_timestamp": "timestamp[us, tz=UTC]",
        "event_type": "string",
        "rating": "float",
        "hour": "int64",
        "weekday": "int64",
        "input_order": "int64",
    }
    log = pq.read_table(tables / "interactions.parquet")
    for row in log.slice(0, 20).to_pylist():
        assert (row["hour"], row["weekday"]) == (row["event_timestamp"].hour, row["event_timestamp"].weekday())
    tags = pq.read_table(tables / "items.parquet")["tags"].to_pylist()
    assert all(tag == sorted(set(tag)) and 1 <= len(tag) <= 3 for tag in tags)


def test_the_shipped_repository_describes_the_tables(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    make(tmp_path, users=50, items=30, events=400)
    apply_definitions(settings)
    spec = read_definitions(open_store(settings), settings.feature_service).spec
    assert {f.field for f in spec.inputs("item")} == {"category", "brand", "tags", "price"}
    assert {f.field for f in spec.inputs("user")} == {"segment", "age_group", "country"}
    assert {f.of for f in spec.history} == {"item_id", "event_timestamp", "event_type", "hour", "weekday"}


def test_browsing_tells_the_category_chosen_next(tmp_path: Path) -> None:
    """A state that changes with every event, known before it and after the one before; the other tables are as without."""
    settings = Settings(home=tmp_path / "with", feature_service="browsing")
    options = SynthOptions(users=50, items=100, events=600, browsing=True)
    report = synthesise(options, workspace=settings.workspace)
    assert report.notes == (
        "synthetic: made by `rf data synth --users 50 --items 100 --events 600 --seed 0 --browsing`",
    )
    tables, plain = settings.workspace.tables, make(tmp_path / "without", users=50, items=100, events=600)
    assert not (plain / "browsing.parquet").exists()
    for name in TABLES:
        assert (tables / name).read_bytes() == (plain / name).read_bytes()
    assert set(report.files) == {*TABLES, "browsing.parquet"}
    log, opened = (columns(tables / f"{name}.parquet") for name in ("interactions", "browsing"))
    category = pq.read_table(tables / "items.parquet")["category"].to_numpy()[log["item_id"] - 1]
    assert len(set(category)) > 1
    assert np.array_equal(opened["opened"], category)
    assert np.array_equal(opened["user_id"], log["user_id"])
    same_user = log["user_id"][1:] == log["user_id"][:-1]
    assert (opened["time"] < log["time"]).all()
    assert (opened["time"][1:] >= log["time"][:-1])[same_user].all()
    apply_definitions(settings)
    spec = read_definitions(open_store(settings), settings.feature_service).spec
    assert {f.field: f.domain for f in spec.inputs("user")}["opened"] == "item_attributes__category"


def test_the_command_says_what_it_cost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RF_HOME", str(tmp_path))
    arguments = ["data", "synth", "--users", "20", "--items", "10", "--events", "100", "--json"]
    result = CliRunner().invoke(app, ["--home", str(tmp_path), *arguments])
    assert result.exit_code == 0
    printed = json.loads(result.stdout)
    assert printed["counts"]["interactions"] == 100
    assert printed["seconds"] > 0
    assert 20 << 20 < printed["peak_bytes"] < 4 << 30


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"users": 0}, "--users=0 must be at least 1"),
        ({"items": 3}, "--items=3 must be at least 10"),
        ({"users": 10, "events": 9}, "--events=9 for --users=10: every user has an event"),
        ({"seed": -1}, "--seed=-1 must not be negative"),
        ({"items": 1 << 31}, "--items=2147483648 must be .* below 2,147,483,648"),
    ],
)
def test_sizes_that_cannot_be(sizes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        SynthOptions(**sizes)


def test_another_catalog_is_not_replaced_unasked(tmp_path: Path) -> None:
    tables = make(tmp_path, users=20, items=10, events=100)
    record = json.loads((tables / "import.json").read_text())
    (tables / "import.json").write_text(json.dumps({**record, "name": "shop"}))
    options = SynthOptions(users=20, items=10, events=100)
    with pytest.raises(UsageError, match="holds the catalog 'shop'"):
        synthesise(options, workspace=Workspace(tmp_path))
    synthesise(options, workspace=Workspace(tmp_path), replace=True)
    assert load_report(tables).name == "synthetic"


def test_users_buy_other_things_than_they_view(catalog: SynthCatalog) -> None:
    """Purchases that follow a taste are of the cheapest style of its category; times and users do not change."""
    users = make_users(LARGE, catalog, tastes(LARGE, catalog), activity(LARGE), 0)
    plain = make_events(LARGE, catalog, users, 0)
    made = make_events(replace(LARGE, behaviours=True), catalog, users, 0)
    assert np.array_equal(plain.timestamp, made.timestamp)
    cell = catalog.cell[made.item]
    cheapest = cell == catalog.cheapest[cell // catalog.styles]
    assert catalog.premium[catalog.cheapest[3]] == catalog.premium[3 * catalog.styles : 4 * catalog.styles].min()
    assert cheapest[made.event_type == 2].mean() > 0.7 > 0.3 > cheapest[made.event_type == 0].mean()
    assert SynthOptions(behaviours=True).describe().endswith("--seed 0 --behaviours")
