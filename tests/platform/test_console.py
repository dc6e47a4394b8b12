"""Tables on terminals, in files and in pipes: nothing that people copy is cut off."""

import io
import sys
from collections.abc import Iterator

import pytest
from rich.console import Group
from rich.padding import Padding
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table

from rf_platform.cli import console

PATH = "/data/" + "a-long-name/" * 30 + "datasets/v1"
FINGERPRINT = "0123456789abcdef" * 4


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def own_console() -> Iterator[None]:
    console.out_console.cache_clear()
    yield
    console.out_console.cache_clear()


def table() -> Table:
    made = Table(title="dataset", show_header=False)
    made.add_column(no_wrap=True)
    made.add_column(no_wrap=True, overflow="ellipsis")
    made.add_column()
    made.add_row("fingerprint", FINGERPRINT, "0.123456")
    made.add_row("path", PATH, "7")
    return made


def printed(stream: io.StringIO, what: object, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setattr(sys, "stdout", stream)
    console.out_console().print(what)
    return stream.getvalue()


def column(text: str, place: int) -> str:
    """Return the cells of one column, put together again."""
    rows = [line.split("│") for line in text.splitlines() if line.startswith("│")]
    return "".join(row[place].strip() for row in rows)


def test_in_a_pipe_a_line_is_as_long_as_what_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    text = printed(io.StringIO(), Group("above", Padding(table(), 1)), monkeypatch)
    assert [line for line in text.splitlines() if PATH in line]
    assert [line for line in text.splitlines() if FINGERPRINT in line and "0.123456" in line]


def test_a_terminal_folds_and_nothing_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    text = printed(Terminal(), Group(table()), monkeypatch)
    assert max(len(line) for line in text.splitlines()) <= 80
    assert "…" not in text
    assert column(text, 2) == FINGERPRINT + PATH
    assert column(text, 3) == "0.1234567"


def test_a_line_of_text_is_not_broken_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    assert printed(Terminal(), f"written to {PATH} just now", monkeypatch) == f"written to {PATH} just now\n"


def test_a_progress_bar_keeps_to_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    bars = Progress(TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[note]}"))
    bars.add_task("a description " * 10, total=2, note="a note " * 10)
    text = printed(Terminal(), bars.make_tasks_table(bars.tasks), monkeypatch)
    assert len(text.splitlines()) == 1


def test_lines_on_standard_error_are_as_long_as_what_they_say(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    console.err_console.cache_clear()
    console.err_console().print(PATH)
    console.err_console.cache_clear()
    assert terminal.getvalue() == PATH + "\n"


@pytest.mark.parametrize("text", ["path/[bold]x[/].json", "an item :smile: and 'quoted' 12.5"])
def test_a_text_is_written_as_it_is(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", out := Terminal())
    monkeypatch.setattr(sys, "stderr", err := Terminal())
    for cached in (console.out_console, console.err_console):
        cached.cache_clear()
    console.say(text)
    console.say(text, err=True)
    for cached in (console.out_console, console.err_console):
        cached.cache_clear()
    assert out.getvalue() == err.getvalue() == text + "\n"
