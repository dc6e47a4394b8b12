"""Policies in the console: checked, asked for, applied, and applied again."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rf_platform.settings import Settings

from ..conftest import REPOSITORY
from .conftest import Browser, running_console

FIRST = "default: home\nplacements:\n  home: {}\n"
SECOND = "default: home\nplacements:\n  home: {}\n  cart: {}\n"


@pytest.fixture
def own(home: Path, tmp_path: Path, copy_workspace: Callable[[Path, Path], Path]) -> Iterator[Browser]:
    """A console on a workspace of its own."""
    settings = Settings(home=copy_workspace(home, tmp_path / "home"), feature_repo=REPOSITORY)
    with running_console(settings, address="127.0.0.1:1") as port:
        yield Browser(port)


def test_a_policy_is_applied_and_taken_back(own: Browser) -> None:
    empty = own.get("/policies")
    assert "There is no policy yet" in empty.words
    form = empty.form("/policies/apply")
    for wrong in (
        "",
        "placements: [",
        "places: {}",
        "placements:\n  home:\n    caps:\n    - feature: nothing\n      most: 1\n",
    ):
        question = own.send(form, text=wrong)
        assert question.forms[-1].disabled, wrong
        assert "problem" in question.text
    question = own.send(form, text=FIRST.replace("\n", "\r\n"), note="the <b>first</b>")
    assert "checked against tiny-run-1" in question.words
    assert "There is no policy yet" in own.get("/policies").words
    applied = own.confirm(question)
    assert "policy version 1 is in effect" in applied.words
    assert "the <b>first</b>" in applied.words
    assert own.send(applied.form("/policies/apply"), text=FIRST).forms[-1].disabled  # says the same
    assert "version 2" in own.confirm(own.send(applied.form("/policies/apply"), text=SECOND)).words
    again = own.get("/policies").form("/policies/apply", version="1")
    assert "version 3" in own.confirm(own.send(again)).words
    assert own.get("/policies?version=2").form("/policies/apply").fields["text"].strip() == SECOND.strip()
    assert own.get("/policies?version=9").status == 404
