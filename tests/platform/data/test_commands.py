"""`rf data` as a user runs it."""

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from rf_platform.cli import main
from rf_platform.cli.console import err_console, out_console
from rf_platform.settings import get_settings


class Result(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Run = Callable[..., Result]


@pytest.fixture
def rf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Run]:
    """Run a command in a workspace of the test's own."""
    monkeypatch.setenv("RF_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "140")
    caches = (get_settings, out_console, err_console)
    for cached in caches:
        cached.cache_clear()

    def run(*arguments: str) -> Result:
        monkeypatch.setattr(sys, "argv", ["rf", "data", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        return Result(int(ended.value.code or 0), *capsys.readouterr())

    yield run
    for cached in caches:
        cached.cache_clear()


@pytest.fixture
def mapping(tmp_path: Path) -> str:
    (tmp_path / "e[1].csv").write_text("who,sku,at\n1,a,2024-01-01\n2,b,2024-01-02\n2,,2024-01-02\n")
    path = tmp_path / "shop.yaml"
    path.write_text("name: shop\ninteractions: {file: 'e[1].csv', user: who, item: sku, timestamp: at}\n")
    return str(path)


def test_import_and_show(rf: Run, mapping: str) -> None:
    code, out, err = rf("import", "custom", "--mapping", mapping)
    assert (code, out) == (1, "")
    assert "error: e[1].csv, row 3, column sku: null key; 1 of 3 rows are bad: 1 null key." in err
    assert (
        rf("show").err == f"error: nothing is imported in {get_settings().workspace.root}; run `rf data import` first\n"
    )

    code, out, err = rf("import", "custom", "--mapping", mapping, "--on-error=quarantine")
    assert code == 0
    line = next(line for line in out.splitlines() if "e[1].csv" in line)
    assert [cell.strip() for cell in line.strip("│").split("│")] == [
        "e[1].csv",
        "interactions",
        "3",
        "2",
        "1",
        "1 null key",
    ]
    assert "2 interactions of 2 users, 2 items; events from 2024-01-01T00:00:00Z to 2024-01-02T00:00:00Z" in out
    assert f"bad rows are kept in {get_settings().workspace.tables / 'quarantine.parquet'}" in out
    assert "next: rf data init-repo DIR" in out
    assert "import shop: " in err

    shown = rf("show")
    assert shown.code == 0
    assert "timestamp[us, tz=UTC]" in shown.out


def test_json(rf: Run, mapping: str) -> None:
    imported = rf("import", "custom", "--mapping", mapping, "--on-error", "quarantine", "--json")
    assert imported.code == 0
    assert (imported.json["name"], imported.json["feature_repo"], imported.json["time"]) == ("shop", None, "observed")
    assert imported.json["counts"] == {"interactions": 2, "items": 2, "active_users": 2, "quarantined": 1}
    assert rf("show", "--json").json == {**imported.json, "suspicions": []}
    assert json.loads((get_settings().workspace.tables / "import.json").read_text()) == imported.json


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["custom"], "custom needs --mapping FILE"),
        (["netflix"], "no source 'netflix'; known are"),
        (["movielens-1m"], "GroupLens offers it for download"),
        (["movielens-100k", "--on-error", "skip"], "--on-error='skip' is neither 'fail' nor 'quarantine'"),
    ],
)
def test_wrong_usage_ends_with_one_sentence_and_code_2(arguments: list[str], said: str, rf: Run) -> None:
    code, out, err = rf("import", *arguments)
    assert (code, out) == (2, "")
    assert said in err
    assert err.count("\n") == 1


def test_help_shows_a_mapping_file(rf: Run) -> None:
    out = rf("import", "--help").out
    assert "rf data import custom --mapping shop.yaml --on-error=quarantine" in out
    assert "title: product_name" in out
