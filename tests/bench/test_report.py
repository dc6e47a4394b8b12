"""What every benchmark leaves behind: a JSON document, a page, charts, and the command that makes them again."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from rf_bench.invocation import Invocation, Output
from rf_bench.report import Report, Table
from rf_platform.cli.options import Json
from rf_training.report.drawing import finish, panel

app = typer.Typer()
calls: list[Invocation] = []


@app.command("try-it")
def try_it(
    context: typer.Context,
    items: Annotated[list[int] | None, typer.Option()] = None,
    store: Annotated[list[str] | None, typer.Option()] = None,
    results: Annotated[int, typer.Option("-k", "--k")] = 10,
    overload: bool = True,
    output: Output = None,
    as_json: Json = False,
) -> None:
    """Remember how it was called."""
    calls.append(Invocation.of(context))


def called(*arguments: str) -> Invocation:
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    return calls.pop()


@pytest.fixture(autouse=True)
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    from rf_platform.settings import get_settings

    for variable in ("OMP_NUM_THREADS", "RF_THREADS"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("RF_HOME", str(tmp_path / "home"))
    get_settings.cache_clear()
    return tmp_path / "home"


def test_a_call_goes_into_the_workspace_with_all_its_parameters(workspace: Path) -> None:
    call = called()
    assert call.directory == workspace / "bench" / "try-it"
    assert call.directory.is_dir()
    assert list(call.parameters) == ["items", "store", "results", "overload"]
    assert (call.parameters["results"], call.parameters["overload"]) == (10, True)
    assert call.command == "rf bench try-it"
    assert not call.as_json


def test_the_command_has_what_was_chosen_and_not_where_it_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RF_THREADS", "2")
    call = called("--items", "3", "--items=5", "-k", "10", "--no-overload", "--json", "--output", str(tmp_path / "a b"))
    assert call.command == "RF_THREADS=2 rf bench try-it --items 3 --items 5 --k 10 --no-overload"
    assert (call.directory, call.as_json) == (tmp_path / "a b", True)


def test_passwords_are_used_and_not_told() -> None:
    url = "postgresql://me:secret@host:5432/db"
    call = called("--store", url, "--store", "sqlite")
    assert call.parameters["store"] == [url, "sqlite"]
    document = Report(title="", lead="", results=None, tables=()).document(call)
    assert document["parameters"]["store"] == ["postgresql://me:***@host:5432/db", "sqlite"]
    assert "secret" not in json.dumps(document)


@dataclass(frozen=True)
class Figure:
    """A result."""

    name: str
    ms: float
    samples: tuple[float, ...] = field(default=(), repr=False)

    @property
    def slow(self) -> bool:
        """Whether it took long."""
        return self.ms > 1


@pytest.fixture
def report() -> Report:
    found = [Figure("a & b", 1.25, (1.0, 2.0)), Figure("none", float("nan"))]
    with panel("chart") as (figure, axes):
        axes.plot([1, 2], [3, 4])
        chart = finish(figure, name="line", title="Line", note="A line.")
    return Report(
        title="A & B",
        lead="What was done.",
        results={"found": found, "vector": np.array([1, 2]), "count": np.int64(3)},
        tables=[
            Table.of("[times]", found, {"name": "{0.name}", "ms": "{0.ms:.1f}", "full": "{0.ms}"}, page_only=("full",))
        ],
        charts=[chart],
        verdict="target met: [all]",
        facts={"Catalog": "made up"},
    )


def published(report: Report, call: Invocation, capsys: pytest.CaptureFixture[str]) -> tuple[list[Path], str]:
    capsys.readouterr()
    files = report.publish(call)
    return files, capsys.readouterr().out


def test_every_report_is_a_document_a_page_and_charts(report: Report, capsys: pytest.CaptureFixture[str]) -> None:
    call = called("--items", "7")
    files, _ = published(report, call, capsys)
    assert sorted(files) == sorted(call.directory.iterdir())
    assert [file.name for file in files] == ["try-it.json", "try-it.html", "try-it-line.png"]
    assert files[2].read_bytes().startswith(b"\x89PNG")
    document = json.loads(files[0].read_text())
    assert list(document) == ["benchmark", "command", "machine", "parameters", "verdict", "results"]
    assert document["command"] == "rf bench try-it --items 7"
    assert set(document["machine"]) == {"cpu", "cores", "load", "python", "finished"}
    assert document["results"] == {
        "found": [{"name": "a & b", "ms": 1.25, "slow": True}, {"name": "none", "ms": None, "slow": False}],
        "vector": [1, 2],
        "count": 3,
    }
    html = files[1].read_text()
    assert html.count("<svg") == 1
    for text in (
        "A &amp; B",
        "a &amp; b",
        "target met: [all]",
        "rf bench try-it --items 7",
        "made up",
        ">full<",
        ">1.25<",
    ):
        assert text in html, text


def test_a_terminal_shows_tables_and_where_the_files_are(report: Report, capsys: pytest.CaptureFixture[str]) -> None:
    call = called()
    _, out = published(report, call, capsys)
    assert "[times]" in out
    assert "a & b" in out
    assert "1.2" in out
    assert "full" not in out
    lines = out.splitlines()
    assert lines[-2] == "target met: [all]"
    assert lines[-1] == f"written: {call.directory / 'try-it.json'} and try-it.html, 1 chart"


def test_json_is_the_document_in_the_file_and_nothing_else(report: Report, capsys: pytest.CaptureFixture[str]) -> None:
    files, out = published(report, called("--json"), capsys)
    assert json.loads(out) == json.loads(files[0].read_text())
