"""``rf items sync`` and ``rf items set`` against a running server."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rf_platform.data.report import ImportReport
from rf_protos.v1.catalog_pb2 import GetItemsRequest

MAPPING = """
name: tiny
interactions: {file: none.csv, user: u, item: i, timestamp: t}
items:
  file: other.csv
  item: sku
  attributes:
    title: name
    genres: {column: genres, type: strings, separator: "|"}
    release_year: year
    title_words: {column: words, type: strings, separator: " "}
"""
TITLE, YEAR, GENRES = "item_attributes__title", "item_attributes__release_year", "item_attributes__genres"


@pytest.fixture
def imported(in_workspace: Path) -> Iterator[Path]:
    """The workspace, with the report of an import in full."""
    record = in_workspace / "tables" / "import.json"
    before = record.read_text()
    ImportReport(
        name="tiny", source="custom", path=".", feature_repo="movielens", time="observed", counts={}, inputs=(), files={},
        columns={}, settled={"items.item_id": "int", "items.release_year": "int"},
    ).save(record.parent)  # fmt: skip
    yield in_workspace
    record.write_text(before)


@pytest.fixture
def rf(
    imported: Path, running: Any, monkeypatch: pytest.MonkeyPatch, run_command: Callable[..., tuple[int, str, str]]
) -> Any:
    """Run ``rf items`` on the server; returns exit code, standard output and standard error."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("RF_ADDRESS", running.server.address)

    def run(*arguments: str) -> tuple[int, str, str]:
        return run_command("items", *arguments)

    return run


@pytest.fixture
def offer(tmp_path: Path, imported: Path) -> Any:
    """Write a shop's file of its items, as they were built but for some changes; returns what `rf items sync` is given."""
    (tmp_path / "shop.yaml").write_text(MAPPING)
    built: list[dict[str, Any]] = pq.read_table(imported / "tables" / "items.parquet").to_pylist()

    def write(changes: dict[int, dict[str, Any] | None]) -> tuple[str, ...]:
        rows = {row["item_id"]: row for row in built}
        for item, change in changes.items():
            if change is None:
                del rows[item]
            else:
                rows[item] = {**rows.get(item, {"title_words": [], "genres": []}), "item_id": item, **change}
        table = {
            "sku": list(rows),
            "name": [row.get("title") for row in rows.values()],
            "genres": ["|".join(row["genres"]) for row in rows.values()],
            "year": pa.array([row.get("release_year") for row in rows.values()], pa.float64()),  # as pandas writes gaps
            "words": [" ".join(row["title_words"]) for row in rows.values()],
        }
        pq.write_table(pa.table(table), tmp_path / "goods.parquet")
        return "sync", str(tmp_path / "goods.parquet"), "--mapping", str(tmp_path / "shop.yaml")

    return write


@pytest.mark.usefixtures("without_others")
def test_the_catalog_becomes_that_of_the_file(rf: Any, offer: Any, running: Any, catalog: Any) -> None:
    assert rf(*offer({}))[0] == 0  # whatever other tests have changed
    assert rf(*offer({}))[1] == "0 added, 0 changed, 60 unchanged, 0 deleted, 0 rejected\n"
    changed = offer({7: {"release_year": 2001}, 8: None, 900: {"title": "New", "genres": ["War"]}, 9: {"title": None}})
    code, out, _ = rf(*changed, "--dry-run")
    assert (code, out) == (
        0,
        "would be deleted: 8\nnothing was changed; it would be: 1 added, 2 changed, 57 unchanged, 1 deleted, 0 rejected\n",
    )
    assert rf(*offer({}))[1] == "0 added, 0 changed, 60 unchanged, 0 deleted, 0 rejected\n"
    changed = offer({7: {"release_year": 2001}, 8: None, 900: {"title": "New", "genres": ["War"]}, 9: {"title": None}})
    assert json.loads(rf(*changed, "--json")[1]) == {
        "dry_run": False, "ADDED": 1, "CHANGED": 2, "UNCHANGED": 57, "DELETED": 1, "REJECTED": 0, "rejected": [],
        "deleted": ["8"],
    }  # fmt: skip
    found = catalog.GetItems(GetItemsRequest(item_ids=["7", "8", "9", "900"]))
    features = {each.item.item_id: each.item.features for each in found.items}
    assert list(found.absent) == ["8"]
    assert features["7"][YEAR].int_value == 2001
    assert TITLE not in features["9"]
    assert list(features["900"][GENRES].string_list.values) == ["War"]
    assert rf(*changed)[1] == "0 added, 0 changed, 60 unchanged, 0 deleted, 0 rejected\n"


@pytest.mark.usefixtures("without_others")
def test_a_file_cut_short_deletes_nothing(rf: Any, offer: Any, catalog: Any) -> None:
    rf(*offer({}))
    before = catalog.ListItems(_list())
    code, _, err = rf(*offer(dict.fromkeys(range(1, 31))))
    assert code == 1
    assert "lacks 30 of the 60 items that the server recommends (50.0%, for example 1, 2, 3)" in err
    assert "nothing was changed" in err
    assert catalog.ListItems(_list()) == before


def test_what_a_file_cannot_be(rf: Any, offer: Any, tmp_path: Path) -> None:
    arguments = offer({10: {"release_year": 1999.5}})
    code, _, err = rf(*arguments)
    assert code == 1
    assert "1999.5" in err
    assert rf("sync", str(tmp_path / "none.csv"), *arguments[2:])[0] == 2


def test_fields_are_set_by_short_and_full_names(rf: Any, catalog: Any) -> None:
    code, out, _ = rf("set", "31", "32", "release_year=2002", f'{GENRES}=["War", "Drama"]', "title=")
    assert (code, out) == (0, "2 changed, 0 unchanged, 0 rejected\n")
    for each in catalog.GetItems(GetItemsRequest(item_ids=["31", "32"])).items:
        assert each.item.features[YEAR].int_value == 2002
        assert list(each.item.features[GENRES].string_list.values) == ["War", "Drama"]
        assert TITLE not in each.item.features
    code, out, _ = rf("set", "9999", "release_year=2002")
    assert (code, "9999: the catalog has no such item" in out or "did you mean" in out) == (1, True)
    assert rf("set", "31", "year")[0] == 2
    assert rf("set", "release_year=2002")[0] == 2


def _list() -> Any:
    from rf_protos.v1.catalog_pb2 import ListItemsRequest

    return ListItemsRequest()
