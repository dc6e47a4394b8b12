import json
import sys
from pathlib import Path
from typing import Any

import pytest

from rf_platform.cli import main


@pytest.fixture
def rf(in_workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Run an ``rf`` command; returns exit code, standard output and standard error."""
    monkeypatch.setenv("COLUMNS", "120")

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["rf", *arguments])
        with pytest.raises(SystemExit) as exit_:
            main()
        out, err = capsys.readouterr()
        return int(exit_.value.code or 0), out, err

    return run


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


def test_without_the_bundle_ids_are_shown(
    rf: Any, server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RF_HOME", str(tmp_path))
    code, out, _ = rf("query", "--user", "17", "-k", "2", "--address", server.server.address)
    assert code == 0
    assert "Movie" not in out
    assert "tiny-run-1" in out


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
