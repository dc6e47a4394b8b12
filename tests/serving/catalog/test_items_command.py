"""``rf items`` against a running server."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rf_platform.cli import main
from rf_platform.settings import get_settings
from rf_protos.v1.catalog_pb2 import Item
from rf_serving.client import end_of_part

GENRES, TITLE, YEAR = "item_attributes__genres", "item_attributes__title", "item_attributes__release_year"


@pytest.fixture
def rf(running: Any, monkeypatch: pytest.MonkeyPatch, run_command: Callable[..., tuple[int, str, str]]) -> Any:
    """Run ``rf items`` on the server; returns exit code, standard output and standard error."""
    monkeypatch.setenv("COLUMNS", "120")

    def run(*arguments: str) -> tuple[int, str, str]:
        return run_command("items", *arguments, "--address", running.server.address)

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
    file = lines(tmp_path / "items.jsonl", {"item_id": 510, YEAR: 1990}, {"item_id": 511, YEAR: "nineties"})
    code, out, _ = rf("upsert", file)
    assert code == 1
    assert f"{file}, line 2: features[\"{YEAR}\"]: 'nineties' is no Int64: expected a whole number" in out
    assert out.endswith("1 added, 0 changed, 0 unchanged, 1 rejected\n")
    code, out, _ = rf("delete", "x", "510")
    assert (code, out.endswith("1 deleted, 0 absent, 1 rejected\n")) == (1, True)


def test_texts_are_read_as_a_file_has_them(rf: Any, tmp_path: Path) -> None:
    assert rf("upsert", lines(tmp_path / "a.jsonl", {"item_id": 515, GENRES: '["War"]', YEAR: "1990"}))[0] == 0
    code, out, _ = rf("get", "515")
    assert (code, json.loads(out)) == (0, {"item_id": "515", GENRES: ["War"], YEAR: 1990})


def test_an_answer_can_be_upserted_again(
    rf: Any, running: Any, workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setenv("RF_HOME", str(workspace))
    get_settings.cache_clear()
    monkeypatch.setattr(
        sys, "argv", ["rf", "query", "--history", "3,9", "-k", "4", "--json", "--address", running.server.address]
    )
    with pytest.raises(SystemExit):
        main()
    answer = capsys.readouterr().out
    assert all(item["score"] and item[TITLE] for item in json.loads(answer)["items"])
    (tmp_path / "answer.json").write_text(answer)
    assert rf("upsert", str(tmp_path / "answer.json"))[1] == "0 added, 0 changed, 4 unchanged, 0 rejected\n"
    get_settings.cache_clear()


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


def test_many_items_go_in_as_many_requests_as_the_server_wants(rf: Any, tmp_path: Path) -> None:
    """The server takes a hundred at once, and says so."""
    ids = [str(number) for number in range(5000, 5130)]
    lines = [json.dumps({"item_id": item, "item_attributes__release_year": 1990}) for item in ids]
    (tmp_path / "items.jsonl").write_text("\n".join(lines))
    found = json.loads(rf("upsert", str(tmp_path / "items.jsonl"), "--json")[1])
    assert (found["ADDED"], found["items"][129]["at"]) == (130, f"{tmp_path / 'items.jsonl'}, line 130")
    assert rf("set", *ids, "release_year=1991")[1] == "130 changed, 0 unchanged, 0 rejected\n"
    shown = [json.loads(line) for line in rf("get", *ids)[1].splitlines()]
    assert [(each["item_id"], each["item_attributes__release_year"]) for each in shown] == [(i, 1991) for i in ids]
    assert rf("delete", *ids)[1] == "130 deleted, 0 absent, 0 rejected\n"


def test_large_items_go_a_few_at_a_time() -> None:
    small, large = Item(item_id="1"), Item(item_id="x" * 700_000)
    assert [end_of_part(values, 0, 3) for values in ([small] * 2, [small] * 9, [large] * 9, [small, large, large])] == [
        2, 3, 2, 3,
    ]  # fmt: skip
