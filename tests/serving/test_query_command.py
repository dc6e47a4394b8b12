import json
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def rf(in_workspace: Path, monkeypatch: pytest.MonkeyPatch, run_command: Any) -> Any:
    """Run an ``rf`` command; returns exit code, standard output and standard error."""
    monkeypatch.setenv("COLUMNS", "120")

    return run_command


def test_history_and_recommendations_are_shown_with_titles(rf: Any, server: Any) -> None:
    code, out, _ = rf("query", "--user", "17", "-k", "5", "--address", server.server.address)
    assert code == 0
    assert "latest of user 17: Movie " in out
    assert out.count("Movie ") >= 10
    assert "release year" in out
    assert "tiny-run-1" in out
    assert "encode" in out


def test_json_has_everything(rf: Any, server: Any) -> None:
    code, out, _ = rf("query", "--history", "3, 9,12", "-k", "4", "--json", "--address", server.server.address)
    answer = json.loads(out)
    assert code == 0
    assert [row["item_id"] for row in answer["history"]] == ["3", "9", "12"]
    assert [row["item_attributes__title"] for row in answer["history"]] == ["Movie 3", "Movie 9", "Movie 12"]
    assert len(answer["items"]) == 4
    assert not {"3", "9", "12"} & {row["item_id"] for row in answer["items"]}
    assert all(row["item_attributes__title"] == f"Movie {row['item_id']}" for row in answer["items"])
    assert list(answer["milliseconds"]) == ["fetch", "encode", "search", "filter"]
    assert answer["cold"] is False


def test_conditions_hold_and_the_plan_is_shown(rf: Any, server: Any) -> None:
    where = ("--where", "item_attributes__genres=War,Drama", "--where", "item_attributes__release_year>=1970")
    address = ("--address", server.server.address)
    code, out, _ = rf("query", "--user", "17", "-k", "60", *where, "--deny", "8,9", "--json", *address)
    answer = json.loads(out)
    assert code == 0
    assert answer["items"]
    for row in answer["items"]:
        assert {"War", "Drama"} & set(row["item_attributes__genres"])
        assert row["item_attributes__release_year"] >= 1970
        assert row["item_id"] not in {"8", "9"}
    assert answer["plan"]["strategy"] == "exact"
    assert len(answer["items"]) <= answer["plan"]["eligible"] < 60
    assert answer["rerank"] == "none"
    assert answer["catalog_sequence"] == server.retriever.engine.catalog.snapshot.sequence
    code, out, _ = rf("query", "--user", "17", "--allow", "5,6,7", *address)
    assert code == 0
    assert "all 3 eligible items scored" in out
    code, _, err = rf("query", "--user", "17", "--where", "item_attributes__genre=War", *address)
    assert code == 2
    assert "did you mean item_attributes__genres?" in err
    code, _, err = rf("query", "--user", "17", "--rerank", "lime", *address)
    assert code == 2
    assert "bundle 'tiny-run-1' has no re-ranker" in err


def test_similar_items_are_shown_by_id_and_by_features(rf: Any, server: Any, tmp_path: Path) -> None:
    address = ("--address", server.server.address)
    code, out, _ = rf("query", "--similar-to", "3,9,777", "-k", "4", *address)
    assert code == 0
    assert "like 3,9,777" in out
    assert out.count("Movie ") == 4
    assert "the catalog has no 777" in out
    file = tmp_path / "item.json"
    file.write_text('{"item_id": "x", "item_attributes__genres": ["War"]}\n')
    code, out, _ = rf("query", "--similar-to", f"@{file}", "--deny", "5", "--json", *address)
    answer = json.loads(out)
    assert code == 0
    assert len(answer["items"]) == 10
    assert answer["items"][0]["item_attributes__title"] == f"Movie {answer['items'][0]['item_id']}"
    assert answer["plan"]["eligible"] == 59
    for arguments, message in (
        (("--similar-to", "3", "--user", "1"), "--user says something of a user"),
        (("--similar-to", ","), "--similar-to has no item id"),
        (("--similar-to", "@nothing.json"), "nothing.json"),
        (("--similar-to", "777"), "the catalog has no '777'"),
    ):
        code, _, err = rf("query", *arguments, *address)
        assert code in (1, 2)
        assert message in " ".join(err.split())


def test_seen_items_can_be_included(rf: Any, server: Any) -> None:
    code, out, _ = rf(
        "query", "--history", "3,9", "-k", "60", "--include-seen", "--json", "--address", server.server.address
    )
    assert code == 0
    assert len(json.loads(out)["items"]) == 60


def test_an_unknown_user_is_said_to_be_cold(rf: Any, server: Any) -> None:
    code, out, _ = rf("query", "--user", "4711", "--address", server.server.address)
    assert code == 0
    assert "user 4711 has no history here" in out


def test_titles_come_from_the_server(rf: Any, server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RF_HOME", str(tmp_path))
    monkeypatch.setenv("RF_ADDRESS", server.server.address)
    code, out, _ = rf("query", "--user", "17", "-k", "2")
    assert code == 0
    assert out.count("Movie ") >= 2


def test_items_of_a_history_that_are_not_there_are_named(rf: Any, server: Any) -> None:
    address = ("--address", server.server.address)
    code, out, _ = rf("query", "--history", "3,777,9,777,778", "--json", *address)
    answer = json.loads(out)
    assert (code, answer["unknown_items"], answer["cold"]) == (0, ["777", "778"], False)
    assert [row["item_id"] for row in answer["history"]] == ["3", "9"]
    assert "has no such items: 777" in rf("query", "--history", "3,777", *address)[1]
    # Filters take the other path.
    code, out, _ = rf("query", "--history", "777", "--allow", "5,6", "--json", *address)
    assert (code, json.loads(out)["unknown_items"], json.loads(out)["cold"]) == (0, ["777"], True)
    code, _, err = rf("query", "--history", "3,777", "--strict", *address)
    assert code == 2
    assert (
        "session.history[1].item_id: '777' is not an item of the catalog of bundle 'tiny-run-1'; without `strict`"
        in err
    )


def test_no_server_is_said_with_the_remedy(rf: Any) -> None:
    code, _, err = rf("query", "--user", "17", "--address", "127.0.0.1:1")
    assert code == 1
    assert "no server answers at 127.0.0.1:1; start one with `rf serve`" in err


def test_what_the_server_refuses_is_passed_on(rf: Any, server: Any) -> None:
    code, _, err = rf("query", "--user", "abc", "--address", server.server.address)
    assert code == 2
    assert "user_id: 'abc' is not an id here" in err


@pytest.mark.parametrize("arguments", [(), ("--user", "1", "--history", "2")])
def test_exactly_one_of_user_and_history_is_needed(rf: Any, arguments: tuple[str, ...]) -> None:
    code, _, err = rf("query", *arguments)
    assert code == 2
    assert "either --user ID or --history" in err


def test_index_build_prints_what_it_built(rf: Any, home_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RF_HOME", str(home_copy))
    code, out, _ = rf("index", "build", "--kind", "hnsw", "--json")
    built = json.loads(out)
    assert code == 0
    assert (built["name"], built["items"], built["index"]["kind"]) == ("tiny-run-2", 60, "hnsw")
    code, out, _ = rf("index", "build", "tiny-run")
    assert code == 0
    assert "built tiny-run-3: 60 items, exact index" in out
    assert "rf promote tiny-run-3" in out
    assert rf("index", "build", "tiny-run", "--kind", "tree")[0] == 2
