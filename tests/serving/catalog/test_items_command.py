"""``rf items`` against a running server."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from rf_platform.cli import main

GENRES, TITLE, YEAR = "item_attributes__genres", "item_attributes__title", "item_attributes__release_year"


@pytest.fixture
def rf(running: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Run ``rf items`` on the server; returns exit code, standard output and standard error."""
    monkeypatch.setenv("COLUMNS", "120")

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["rf", "items", *arguments, "--address", running.server.address])
        with pytest.raises(SystemExit) as exit_:
            main()
        out, err = capsys.readouterr()
        return int(exit_.value.code or 0), out, err

    return run


def lines(path: Path, *items: dict[str, Any]) -> str:
    path.write_text("".join(json.dumps(item) + "\n" for item in items))
    return str(path)


def test_items_go_in_come_out_as_they_went_and_are_deleted(rf: Any, tmp_path: Path) -> None:
    item = {"item_id": "500", GENRES: ["War", "Drama"], YEAR: 1990, TITLE: "War [again]"}
    file = lines(tmp_path / "items.jsonl", item)
    assert rf("upsert", file)[:2] == (0, "1 added, 0 changed, 0 unchanged, 0 rejected\n")
    assert rf("upsert", file)[1] == "0 added, 0 changed, 1 unchanged, 0 rejected\n"
    code, out, err = rf("get", "500")
    assert (code, json.loads(out), err) == (0, item, "")
    (tmp_path / "again.jsonl").write_text(out)
    assert rf("upsert", str(tmp_path / "again.jsonl"))[1] == "0 added, 0 changed, 1 unchanged, 0 rejected\n"
    assert rf("delete", "500", "501")[:2] == (0, "1 deleted, 1 absent, 0 rejected\n")
    assert rf("get", "500") == (1, "", "not in the catalog: 500\n")


def test_what_is_rejected_is_told_by_line(rf: Any, tmp_path: Path) -> None:
    file = lines(tmp_path / "items.jsonl", {"item_id": 510, YEAR: 1990}, {"item_id": 511, YEAR: "1990"})
    code, out, _ = rf("upsert", file)
    assert code == 1
    assert f'{file}, line 2: features["{YEAR}"]: string_value is given, but the feature is Int64' in out
    assert out.endswith("1 added, 0 changed, 0 unchanged, 1 rejected\n")
    code, out, _ = rf("delete", "x", "510")
    assert (code, out.endswith("1 deleted, 0 absent, 1 rejected\n")) == (1, True)


def test_neighbours_and_json(rf: Any, tmp_path: Path) -> None:
    file = lines(tmp_path / "items.jsonl", {"item_id": 520, GENRES: ["War"]}, {"item_id": 521, GENRES: ["War"]})
    code, out, _ = rf("upsert", file, "--neighbours", "2")
    assert code == 0
    assert out.startswith("520: 521 1.000, ")
    code, out, _ = rf("upsert", file, "--neighbours", "2", "--json")
    found = json.loads(out)
    assert (found["UNCHANGED"], found["REJECTED"], len(found["items"])) == (2, 0, 2)
    assert found["items"][0]["neighbours"]["521"] == pytest.approx(1)
    assert found["items"][0]["searchable"]
    code, out, _ = rf("get", "520", "7", "99", "--json")
    found = json.loads(out)
    assert [(item["item_id"], item["cold"]) for item in found["items"]] == [("520", True), ("7", False)]
    assert (code, found["absent"]) == (1, ["99"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"item_id": 1}\n[]', "line 2: not a JSON object but list"),
        ("nonsense", "line 1: not a JSON object: "),
        ('{"id": 1}', "line 1: item_id is missing"),
        ('{"item_id": 1, "x": {}}', "line 1: x: {} is no value of a feature"),
        ('{"item_id": 1, "x": 9223372036854775808}', "line 1: x: 9223372036854775808 is no value of a feature"),
    ],
)
def test_a_line_that_is_no_item_stops_everything(rf: Any, tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "items.jsonl"
    file.write_text(text)
    code, out, err = rf("upsert", str(file))
    assert (code, out) == (2, "")
    assert message in " ".join(err.split())
